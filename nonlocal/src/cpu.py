"""What is fast on the CPU, where MindSpore hands oneDNN the plain layout."""

import cv2
import mindspore as ms
import numpy as np
from mindspore import nn, ops
from mindspore.common import dtype

AVX_512F = 13  # OpenCV's number of it


class TemporalConv(nn.Cell):
    """Convolution 3x1x1: x (B, C, T, H, W), weight (D, C, 3, 1, 1) -> (B, D, T, H, W).

    Where positions are at least four times the channels (as timed), x is convolved 1x1x1 to 3 * D channels,
    of which a product with zeros and ones sums the three of each frame. The gradients are matrix products,
    where MindSpore's kernels take up to twice as long (timed as single operators), with the output's
    gradient shifted in time to each of the three taps: it is the narrow side, D = C / 4 or C / 2.
    """

    def __init__(self, channels):
        super().__init__()
        self.to_taps = ops.Conv3D(3 * channels, (1, 1, 1))
        self.direct = ops.Conv3D(channels, (3, 1, 1), pad_mode="same")
        self.of_input = ops.BatchMatMul(transpose_a=True)
        self.of_weight = ops.BatchMatMul(transpose_b=True)

    def trains_faster(self, shape):
        """Whether this is so for x of `shape`: for its gradient each clip needs a copy of the weights."""
        batch, channels, *positions = shape
        return batch == 1 or positions[0] * positions[1] * positions[2] > channels

    def construct(self, x, weight):
        b, c, t, h, w = x.shape
        if t * h * w < 4 * c:
            return self.direct(x, weight)
        taps = weight.reshape(-1, c, 3).transpose(0, 2, 1).reshape(-1, c, 1, 1, 1)
        x = self.to_taps(x, taps).reshape(b, -1, 3 * t, h * w)  # (B, D, 3 taps of T frames, H * W)
        return ops.matmul(neighbours(t).astype(x.dtype), x).reshape(b, -1, t, h, w)

    def bprop(self, x, weight, out, dout):
        batch, channels = x.shape[:2]
        kind, x, weight = x.dtype, x.astype(dout.dtype), weight.astype(dout.dtype)  # PyNative's O2 mixes them
        matrix = weight.reshape(-1, channels, 3).transpose(2, 0, 1).reshape(1, -1, channels)  # (1, 3D, C)
        matrix = matrix.broadcast_to((batch, -1, -1))
        nothing = ops.zeros((*dout.shape[:2], 1, *dout.shape[3:]), dout.dtype)
        earlier = ops.concat((dout[:, :, 1:], nothing), 2)
        later = ops.concat((nothing, dout[:, :, :-1]), 2)
        taps = ops.concat((earlier, dout, later), 1).reshape(batch, matrix.shape[1], -1)  # (B, 3D, T * H * W)
        of_input = self.of_input(matrix, taps).reshape(x.shape).astype(kind)
        of_weight = self.of_weight(taps, x.reshape(batch, channels, -1)).sum(0)  # (3D, C)
        of_weight = of_weight.reshape(3, -1, channels).transpose(1, 2, 0).reshape(weight.shape)
        return of_input, of_weight.astype(dtype.float32)  # as the parameter; `weight` may be a float16 copy


@ops.constexpr
def neighbours(frames):
    """(1, 1, T, 3 T) of 0 and 1: which frame of which tap each frame of the output is the sum of."""
    taps = [np.eye(frames, k=shift, dtype=np.float32) for shift in (-1, 0, 1)]
    return ms.Tensor(np.concatenate(taps, 1)[None, None])


class PairedConv(nn.Cell):
    """Convolution 5x7x7 of stride 2: x (B, C, T, H, W), weight (D, C, 5, 7, 7) -> (B, D, T', H', W').

    A window covers three pairs of frames: each pair is convolved as an image to 3 * D channels, of which a
    product with zeros and ones sums the three of a window. Conv3D copies each pixel 31 times and not 12.
    """

    def __init__(self, channels):
        super().__init__()
        self.of_pairs = ops.Conv3D(
            3 * channels, (1, 7, 7), pad_mode="pad", pad=(0, 0, 3, 3, 3, 3), stride=(1, 2, 2)
        )

    def trains_faster(self, shape):
        """Whether this is so for x of `shape`: always."""
        return True

    def construct(self, x, weight):
        b, c, t, h, w = x.shape
        if t % 2:  # the frame that padding has behind the last
            x = ops.concat((x, ops.zeros_like(x.narrow(2, 0, 1))), 2)
        x = x.reshape(b, c, -1, 2, h, w).transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * c, -1, h, w)
        weight = ops.concat((weight, ops.zeros_like(weight.narrow(2, 0, 1))), 2)
        weight = weight.reshape(-1, c, 3, 2, 7, 7).transpose(0, 2, 1, 3, 4, 5)  # (D, pair, C, frame, 7, 7)
        x = self.of_pairs(x, weight.reshape(-1, 2 * c, 1, 7, 7))
        _, _, t, h, w = x.shape
        x = ops.matmul(neighbours(t).astype(x.dtype), x.reshape(b, -1, 3 * t, h * w))
        return x.reshape(b, -1, t, h, w)


class PairMax(nn.Cell):
    """The larger of each pair of frames: (B, C, T, H, W) -> (B, C, T / 2, H, W), rounded down.

    As MaxPool3D, whose gradient takes three times as long (as timed). Of equals the first has the gradient.
    """

    def construct(self, x):
        first, second = pairs(x)
        return ops.maximum(first, second).reshape(*x.shape[:2], -1, *x.shape[3:])

    def bprop(self, x, out, dout):
        first, second = pairs(x)
        dout = dout.reshape(first.shape)
        of_first = dout * (first >= second).astype(dout.dtype)
        gradient = ops.concat((of_first, dout - of_first), 1)  # (B * C * T / 2, 2, H * W)
        gradient = gradient.reshape(*x.shape[:2], -1, *x.shape[3:])
        if x.shape[2] % 2:
            gradient = ops.concat((gradient, ops.zeros_like(x.narrow(2, 0, 1))), 2)
        return (gradient,)


def pairs(x):
    """First and second frame of each pair of (B, C, T, H, W), each (B * C * (T // 2), 1, H * W)."""
    b, c, t, h, w = x.shape
    x = x.narrow(2, 0, t // 2 * 2) if t % 2 else x
    x = x.reshape(b * c * (t // 2), 2, h * w)
    return x.narrow(1, 0, 1), x.narrow(1, 1, 1)


def gradient_of_pooling_is_slow():
    """Whether MindSpore's gradient of max pooling takes 5 to 25 times as long as the pooling (as timed).

    It pools once more for the places of the maxima, which oneDNN does fast with AVX-512 alone.
    """
    return ms.get_context("device_target") == "CPU" and not cv2.checkHardwareSupport(AVX_512F)
