"""R(2+1)D-18 (A Closer Look at Spatiotemporal Convolutions for Action Recognition, arXiv 1711.11248).

A residual network of 18 layers whose 3D convolutions are each a spatial one followed by a temporal one, with
normalisation and ReLU between them. Widths are torchvision's. Inside, frames come before channels: (B, T, C,
H, W), so that a spatial convolution is a 2D one of B * T images, whose CPU kernels are the faster ones.
"""

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from mindspore.common.initializer import HeNormal, Normal, initializer
from mindspore.ops import constexpr

from shared_utils.config import UserError
from src.dropout import Dropout


class Unit(nn.Cell):
    """Convolution of each frame and, where `relu` says so, ReLU, with batch normalisation between them.

    (B, T, C, H, W) -> (B, T', C', H', W'). With `taps` 1 the kernel is (1, size, size); with 3 and size 1 it
    is (3, 1, 1), a convolution to three times the channels, one for each frame that it is to be added to.
    In evaluation the normalisation is folded into the convolution, unless taps are summed between them or x
    has fewer numbers than the weights.
    """

    def __init__(self, in_channels, channels, size=1, stride=(1, 1, 1), taps=1, relu=True):
        super().__init__()
        pad = (size // 2,) * 4
        self.conv = nn.Conv2d(in_channels, taps * channels, size, stride[1:], pad_mode="pad", padding=pad)
        self.norm = nn.BatchNorm2d(channels)
        self.add_bias = ops.BiasAdd()
        self.activate = nn.ReLU() if relu else nn.Identity()
        self.taps, self.stride = taps, stride[0]

    def gather(self, x, frames):
        """Sum the taps that meet in each frame of the output.

        (B * T, taps * C', H', W') -> (B * T', C', H', W').
        """
        if self.taps == 1 and self.stride == 1:
            return x
        _, c, h, w = x.shape
        x = x.reshape(-1, frames * self.taps, c // self.taps * h * w)
        x = ops.matmul(neighbours(frames, self.stride, self.taps).astype(x.dtype), x)  # (B, T', C' * H' * W')
        return x.reshape(-1, c // self.taps, h, w)

    def construct(self, x):
        b, t, c, h, w = x.shape
        x = x.reshape(b * t, c, h, w)
        # Folding is a pass over the weights, and would give each of three taps a bias to sum.
        if self.training or self.taps > 1 or x.size < self.conv.weight.size:
            x = self.norm(self.gather(self.conv(x), t))
        else:
            scale = self.norm.gamma / ops.sqrt(self.norm.moving_variance + self.norm.eps)  # (C',)
            bias = self.norm.beta - self.norm.moving_mean * scale
            x = self.conv.conv2d(x, self.conv.weight * scale.reshape(-1, 1, 1, 1))
            x = self.gather(self.add_bias(x, bias), t)
        return self.activate(x).reshape(b, -1, *x.shape[1:])  # (B, T', C', H', W')


@constexpr
def neighbours(frames, stride, taps):
    """(T', T * taps) of 0 and 1: which taps of which frames each frame of the output is the sum of.

    A product with it is a single pass over the taps each way, where shifting them would take seven.
    """
    matrix = np.zeros((-(-frames // stride), frames, taps), np.float32)
    for tap in range(taps):
        for row in range(len(matrix)):
            frame = row * stride + tap - taps // 2
            if 0 <= frame < frames:
                matrix[row, frame, tap] = 1
    return ms.Tensor(matrix.reshape(len(matrix), -1))


class Conv2Plus1D(nn.Cell):
    """A (2+1)D convolution: kernel (1, size, size) to `mid` channels, then (3, 1, 1) to `channels`, each a
    Unit (Section 3.5)."""

    def __init__(self, in_channels, mid, channels, stride=(1, 1, 1), size=3, relu=True):
        super().__init__()
        self.space = Unit(in_channels, mid, size, (1, *stride[1:]))
        self.time = Unit(mid, channels, stride=(stride[0], 1, 1), taps=3, relu=relu)

    def construct(self, x):
        return self.time(self.space(x))


class Block(nn.Cell):
    """Residual block of two (2+1)D convolutions (Section 3.5).

    Both have the width that gives a 3x3x3 convolution of the block's input to its output its number of
    weights, as torchvision has it: the paper asks for that of each one's own input.
    """

    def __init__(self, in_channels, channels, stride):
        super().__init__()
        mid = 27 * in_channels * channels // (9 * in_channels + 3 * channels)
        self.conv1 = Conv2Plus1D(in_channels, mid, channels, stride)
        self.conv2 = Conv2Plus1D(channels, mid, channels, relu=False)
        self.shortcut = nn.Identity()
        if in_channels != channels or stride != (1, 1, 1):
            self.shortcut = Unit(in_channels, channels, stride=stride, relu=False)

    def construct(self, x):
        return ops.relu(self.conv2(self.conv1(x)) + self.shortcut(x))


class R2Plus1D18(nn.Cell):
    """Clips (B, 3, T, H, W) -> logits (B, num_classes) (Table 1).

    stage_channels: widths of the four stages; stage_strides: of each one's first block, in (T, H, W).
    keep_prob: share of the features that dropout before the classifier keeps.
    Raises UserError where one of these cannot be.
    """

    def __init__(
        self,
        num_classes=400,
        stage_channels=(64, 128, 256, 512),
        stage_strides=((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)),
        keep_prob=1.0,
    ):
        super().__init__()
        _check(num_classes, stage_channels, stage_strides)
        self.stem = Conv2Plus1D(3, 45, stage_channels[0], (1, 2, 2), size=7)
        blocks, width = [], stage_channels[0]
        for channels, stride in zip(stage_channels, stage_strides):
            blocks += [Block(width, channels, tuple(stride)), Block(channels, channels, (1, 1, 1))]
            width = channels
        self.blocks = nn.SequentialCell(blocks)
        self.dropout = Dropout(keep_prob)
        self.classifier = nn.Dense(width, num_classes)
        _initialise(self)

    def features(self, clips):
        """Clips (B, 3, T, H, W) -> (B, C), the mean over all positions of the last stage."""
        frames = clips.transpose(0, 2, 1, 3, 4)  # (B, T, 3, H, W)
        return self.blocks(self.stem(frames)).mean((1, 3, 4))

    def construct(self, clips, key=None):
        return self.classifier(self.dropout(self.features(clips), key))


def _check(num_classes, stage_channels, stage_strides):
    if num_classes < 1:
        raise UserError(f"model.num_classes must be at least 1, not {num_classes}")
    if len(stage_channels) != 4 or min(stage_channels) < 1:
        raise UserError(f"model.stage_channels must be four positive numbers, not {stage_channels}")
    if len(stage_strides) != 4 or any(len(stride) != 3 or min(stride) < 1 for stride in stage_strides):
        raise UserError(f"model.stage_strides must be four times three positive numbers, not {stage_strides}")


def _initialise(network):
    """torchvision's start: convolutions He-normal by their outputs, the classifier normal with standard
    deviation 0.01 and zero bias."""
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.Conv2d):
            cell.weight.set_data(initializer(HeNormal(mode="fan_out"), cell.weight.shape))
    weight, bias = network.classifier.weight, network.classifier.bias
    weight.set_data(initializer(Normal(0.01), weight.shape))
    bias.set_data(initializer("zeros", bias.shape))
