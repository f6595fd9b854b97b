"""R(2+1)D-18: spatial convolutions, then temporal ones (arXiv 1711.11248)."""
