"""Cross-entropy with smoothed labels."""

from mindspore import nn, ops

from shared_utils.config import UserError


class CrossEntropySmooth(nn.Cell):
    """Logits (B, K) and labels (B,) -> mean cross-entropy with 1 - `smoothing` at the label.

    What is taken off the label goes to the K - 1 other classes in equal parts. Raises UserError.
    """

    def __init__(self, num_classes, smoothing=0.1):
        super().__init__()
        if smoothing > 1:
            raise UserError(f"label_smoothing must be at most 1, not {smoothing}")
        # MindSpore's own label_smoothing gives a part to the label, too.
        self.smoothing = smoothing * num_classes / max(1, num_classes - 1)

    def construct(self, logits, labels):
        return ops.cross_entropy(logits, labels, label_smoothing=self.smoothing)
