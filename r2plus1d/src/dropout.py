"""Dropout that a resumed run repeats: what it drops follows from a key, not from a hidden state."""

from mindspore import nn, ops
from mindspore.common import dtype

from shared_utils.config import UserError

ROUNDS = ((16, 2146121005), (15, -2073254261), (16, 1))  # (shift, factor), on 32 bits that wrap around


def mix(bits):
    """int32 of any shape -> int32 that look drawn at random; equal ones stay equal, others stay different."""
    for shift, factor in ROUNDS:
        upper = ops.bitwise_right_shift(bits, ops.full_like(bits, shift))
        upper = ops.bitwise_and(upper, ops.full_like(bits, 2 ** (32 - shift) - 1))  # no copies of the sign
        bits = ops.bitwise_xor(bits, upper) * factor
    return bits


class Dropout(nn.Cell):
    """In training zeroes features (B, ...) but for the share `keep_prob`, which is 1 / keep_prob as large.

    `key`: int32 (2,), of the step and of the first clip's number in it. A clip drops the same wherever in
    the step's batch, or on whichever rank, it is. Without a key it is MindSpore's own dropout. Raises
    UserError where keep_prob is not in (0, 1].
    """

    def __init__(self, keep_prob):
        super().__init__()
        if not 0 < keep_prob <= 1:
            raise UserError(f"model.keep_prob must be above 0 and at most 1, not {keep_prob}")
        self.drawn = nn.Dropout(p=1 - keep_prob)
        self.keep_prob, self.below = keep_prob, round(keep_prob * 2**32) - 2**31

    def construct(self, features, key=None):
        if key is None or not self.training or self.keep_prob == 1:
            return self.drawn(features)
        places = ops.arange(features.size).astype(dtype.int32) + key[1] * (features.size // features.shape[0])
        kept = mix(ops.bitwise_xor(mix(places), mix(key)[0])) < self.below
        return features * (kept.reshape(features.shape).astype(features.dtype) / self.keep_prob)
