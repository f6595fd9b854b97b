"""ARN: few-shot action recognition with permutation-invariant attention (arXiv 2001.03905)."""
