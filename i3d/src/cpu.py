"""Forms of layers that are fast on the CPU, where MindSpore hands oneDNN the plain layout."""

import cv2
import mindspore as ms
import numpy as np
from mindspore import nn, ops

AVX_512F = 13  # OpenCV's number of it


class PairedConv(nn.Cell):
    """Convolution 7x7x7 of stride 2 with SAME padding that is fast on the CPU, to frames as images.

    x (B, C, T, H, W), weight (D, C, 7, 7, 7) -> (B * T', D, H', W'). A window covers four pairs of frames:
    all pairs are convolved as images, to 4 * D channels, of which a product with zeros and ones sums the four
    of a window. Conv3D copies each pixel 43 times and not 12; memory is four times the output's here.
    """

    def __init__(self, channels):
        super().__init__()
        self.channels = channels
        self.of_pairs = ops.Conv2D(4 * channels, (7, 7), pad_mode="same", stride=(2, 2))

    def construct(self, x, weight):
        b, c, t, h, w = x.shape
        if t % 2:  # SAME padding has a frame more ahead of an odd count
            x = ops.concat((ops.zeros_like(x[:, :, :1]), x), 2)
        x = x.reshape(b, c, -1, 2, h, w).transpose(0, 2, 1, 3, 4, 5)  # (B, T', C, 2, H, W)
        weight = ops.concat((weight, ops.zeros_like(weight[:, :, :1])), 2)
        weight = weight.reshape(-1, c, 4, 2, 7, 7).transpose(2, 0, 1, 3, 4, 5)  # (4, D, C, 2, 7, 7)
        x = self.of_pairs(x.reshape(-1, 2 * c, h, w), weight.reshape(-1, 2 * c, 7, 7))
        h, w = x.shape[2:]
        x = x.reshape(b, -1, self.channels * h * w)  # (B, T' * 4, D * H' * W')
        return ops.matmul(windows(x.shape[1] // 4).astype(x.dtype), x).reshape(-1, self.channels, h, w)


@ops.constexpr
def windows(pairs):
    """(T', 4 T') of 0 and 1: which tap of which pair of frames each window is the sum of."""
    matrix = np.zeros((pairs, pairs, 4), np.float32)
    for tap in range(4):
        for window in range(pairs):
            if 0 <= window + tap - 1 < pairs:
                matrix[window, window + tap - 1, tap] = 1
    return ms.Tensor(matrix.reshape(pairs, -1))


def gradient_of_pooling_is_slow():
    """Whether MindSpore's gradient of max pooling takes 5 to 25 times as long as the pooling (as timed).

    It pools once more for the places of the maxima, which oneDNN does fast with AVX-512 alone.
    """
    return ms.get_context("device_target") == "CPU" and not cv2.checkHardwareSupport(AVX_512F)


class ArgmaxPool(nn.Cell):
    """Max pooling with SAME padding that keeps the places of the maxima for its gradient.

    (B, C, T, H, W) -> (B, C, T', H', W'), for kernels of at most 3 places.
    """

    def __init__(self, kernel, stride):
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def construct(self, x):
        ahead = []  # the far side is padded by ceil_mode
        for there, size, step in zip(x.shape[2:], self.kernel, self.stride):
            ahead.append(max((-(-there // step) - 1) * step + size - there, 0) // 2)
        return ops.max_pool3d(x, self.kernel, self.stride, tuple(ahead), ceil_mode=True)
