"""R(2+1)D-18: A Closer Look at Spatiotemporal Convolutions for Action Recognition (CVPR 2018, arXiv 1711.11248).

A residual network of 18 layers whose 3D convolutions are each a spatial one followed by a temporal one, with
normalisation and ReLU between them. Widths are torchvision's.
"""

from mindspore import nn, ops
from mindspore.common.initializer import HeNormal, Normal, initializer

from shared_utils.config import UserError


class Unit(nn.Cell):
    """Convolution, batch normalisation and, where `relu` says so, ReLU: (B, C, T, H, W) -> (B, C', T', H', W').

    In evaluation the normalisation is folded into the convolution.
    """

    def __init__(self, in_channels, channels, kernel, stride, relu=True):
        super().__init__()
        padding = tuple(size // 2 for size in kernel for _ in range(2))
        self.conv = nn.Conv3d(in_channels, channels, kernel, stride, pad_mode="pad", padding=padding)
        self.norm = nn.BatchNorm3d(channels)
        self.activate = nn.ReLU() if relu else nn.Identity()

    def construct(self, x):
        if self.training:
            return self.activate(self.norm(self.conv(x)))
        norm = self.norm.bn2d
        scale = norm.gamma / ops.sqrt(norm.moving_variance + norm.eps)  # (C',)
        bias = norm.beta - norm.moving_mean * scale
        x = self.conv.conv3d(x, self.conv.weight * scale.reshape(-1, 1, 1, 1, 1))
        return self.activate(x + bias.reshape(1, -1, 1, 1, 1))


class Conv2Plus1D(nn.Cell):
    """A (2+1)D convolution: kernel (1, size, size) to `mid` channels, then (3, 1, 1) to `channels`, each a
    Unit (Section 3.5)."""

    def __init__(self, in_channels, mid, channels, stride=(1, 1, 1), size=3, relu=True):
        super().__init__()
        self.space = Unit(in_channels, mid, (1, size, size), (1, *stride[1:]))
        self.time = Unit(mid, channels, (3, 1, 1), (stride[0], 1, 1), relu)

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
            self.shortcut = Unit(in_channels, channels, (1, 1, 1), stride, relu=False)

    def construct(self, x):
        return ops.relu(self.conv2(self.conv1(x)) + self.shortcut(x))


class R2Plus1D18(nn.Cell):
    """Clips (B, 3, T, H, W) -> logits (B, num_classes) (Section 4.1, Table 1).

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
        _check(num_classes, stage_channels, stage_strides, keep_prob)
        self.stem = Conv2Plus1D(3, 45, stage_channels[0], (1, 2, 2), size=7)
        blocks, width = [], stage_channels[0]
        for channels, stride in zip(stage_channels, stage_strides):
            blocks += [Block(width, channels, tuple(stride)), Block(channels, channels, (1, 1, 1))]
            width = channels
        self.blocks = nn.SequentialCell(blocks)
        self.dropout = nn.Dropout(p=1 - keep_prob) if keep_prob < 1 else nn.Identity()
        self.classifier = nn.Dense(width, num_classes)
        _initialise(self)

    def features(self, clips):
        """Clips (B, 3, T, H, W) -> (B, C), the mean over all positions of the last stage."""
        return self.blocks(self.stem(clips)).mean((2, 3, 4))

    def construct(self, clips):
        return self.classifier(self.dropout(self.features(clips)))


def _check(num_classes, stage_channels, stage_strides, keep_prob):
    if num_classes < 1:
        raise UserError(f"model.num_classes must be at least 1, not {num_classes}")
    if len(stage_channels) != 4 or min(stage_channels) < 1:
        raise UserError(f"model.stage_channels must be four positive numbers, not {stage_channels}")
    if len(stage_strides) != 4 or any(len(stride) != 3 or min(stride) < 1 for stride in stage_strides):
        raise UserError(f"model.stage_strides must be four times three positive numbers, not {stage_strides}")
    if not 0 < keep_prob <= 1:
        raise UserError(f"model.keep_prob must be above 0 and at most 1, not {keep_prob}")


def _initialise(network):
    """torchvision's start: convolutions He-normal by their outputs, the classifier normal with standard
    deviation 0.01 and zero bias."""
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.Conv3d):
            cell.weight.set_data(initializer(HeNormal(mode="fan_out"), cell.weight.shape))
    weight, bias = network.classifier.weight, network.classifier.bias
    weight.set_data(initializer(Normal(0.01), weight.shape))
    bias.set_data(initializer("zeros", bias.shape))
