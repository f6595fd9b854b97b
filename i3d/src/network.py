"""I3D: Inception-v1 inflated to three dimensions (CVPR 2017, arXiv 1705.07750, Section 2.2 and Figure 3).

Padding is TensorFlow's SAME everywhere: an axis of n places becomes ceil(n / stride) places, and the odd
padded place goes to the far side.
"""

from functools import partial

import mindspore as ms
from mindspore import nn, ops

from shared_utils.config import UserError
from src import cpu
from src.dropout import Dropout


class Unit(nn.Cell):
    """Convolution without bias, batch normalisation, ReLU: (B, C_in, T, H, W) -> (B, C, T, H, W).

    In evaluation the normalisation is folded into the convolution, unless x has fewer numbers than weights.
    """

    def __init__(self, in_channels, channels, kernel=1, *, momentum):
        super().__init__()
        self.conv = nn.Conv3d(in_channels, channels, kernel, pad_mode="same")
        self.norm = nn.BatchNorm3d(channels, eps=1e-3, momentum=momentum)
        # Half the time of a broadcast sum. ONNX has it as part of the convolution, behind nothing else.
        self.add_bias = ops.BiasAdd(data_format="NCDHW")

    def construct(self, x):
        if self.training or x.size < self.conv.weight.size:  # folding is a pass over the weights
            return ops.relu(self.norm(self.conv(x)))
        norm = self.norm.bn2d
        scale = norm.gamma / ops.sqrt(norm.moving_variance + norm.eps)  # (C,)
        x = self.conv.conv3d(x, self.conv.weight * scale.reshape((-1, 1, 1, 1, 1)))
        return ops.relu(self.add_bias(x, (norm.beta - norm.moving_mean * scale).astype(x.dtype)))


class MaxPool(nn.Cell):
    """Max pooling with SAME padding: (B, C, T, H, W) -> (B, C, T', H', W')."""

    def __init__(self, kernel, stride):
        super().__init__()
        self.trained = cpu.ArgmaxPool(kernel, stride) if cpu.gradient_of_pooling_is_slow() else None
        self.of_frames = kernel[0] == stride[0] == 1
        if self.of_frames:  # as images: on the CPU MaxPool3D's gradient pools once more, slowly
            self.pool = ops.MaxPool(kernel[1:], stride[1:], "same")
        else:
            self.pool = ops.MaxPool3D(kernel, stride, "same")

    def construct(self, x):
        if self.training and self.trained is not None:
            return self.trained(x)
        if not self.of_frames:
            return self.pool(x)
        b, c, t, h, w = x.shape
        x = self.pool(x.reshape(b, c * t, h, w))
        return x.reshape(b, c, t, *x.shape[2:])


class Stem(nn.Cell):
    """Convolution 7x7x7 of stride 2, batch normalisation, ReLU, max pooling 1x3x3 of stride (1, 2, 2).

    (B, 3, T, H, W) -> (B, 64, T / 2, H / 4, W / 4).
    """

    def __init__(self, *, momentum):
        super().__init__()
        self.conv = nn.Conv3d(3, 64, 7, 2, pad_mode="same")
        self.paired = cpu.PairedConv(64) if ms.get_context("device_target") == "CPU" else None
        self.norm = nn.BatchNorm3d(64, eps=1e-3, momentum=momentum)
        self.pool = MaxPool((1, 3, 3), (1, 2, 2))

    def convolve(self, clips, weight):
        """The convolution with `weight`, to frames as images (B * T', 64, H', W')."""
        if self.paired is not None:
            return self.paired(clips, weight)
        x = self.conv.conv3d(clips, weight).transpose(0, 2, 1, 3, 4)
        return x.reshape(-1, *x.shape[2:])

    def construct(self, clips):
        norm = self.norm.bn2d
        if self.training:
            x = ops.relu(norm(self.convolve(clips, self.conv.weight)))
            x = self.pool(x.expand_dims(2)).squeeze(2)
        else:
            scale = norm.gamma / ops.sqrt(norm.moving_variance + norm.eps)  # (64,)
            x = self.convolve(clips, self.conv.weight * scale.reshape(-1, 1, 1, 1, 1))
            x = self.pool(x.expand_dims(2)).squeeze(2)
            bias = (norm.beta - norm.moving_mean * scale).reshape(1, -1, 1, 1)
            x = ops.relu(x + bias.astype(x.dtype))  # what rises everywhere can wait for the maxima
        c, h, w = x.shape[1:]
        return x.reshape(clips.shape[0], -1, c, h, w).transpose(0, 2, 1, 3, 4)  # (B, 64, T', H'', W'')


class Mixed(nn.Cell):
    """Inception block: four branches of one input, joined by channels (Figure 3, right).

    Branch 0 is 1x1x1; 1 and 2 are 1x1x1, then 3x3x3; 3 is a pool, then 1x1x1. The 1x1x1 convolutions that
    see the input itself are one wider convolution. `widths`: 0, 1a, 1b, 2a, 2b, 3.
    """

    def __init__(self, in_channels, widths, *, momentum):
        super().__init__()
        unit = partial(Unit, momentum=momentum)
        self.entry_widths = [widths[0], widths[1], widths[3]]
        self.entry = unit(in_channels, sum(self.entry_widths))
        self.branch1 = unit(widths[1], widths[2], 3)
        self.branch2 = unit(widths[3], widths[4], 3)
        self.pool = MaxPool((3, 3, 3), (1, 1, 1))
        self.branch3 = unit(in_channels, widths[5])

    def construct(self, x):
        branch0, branch1, branch2 = ops.split(self.entry(x), self.entry_widths, 1)
        return ops.concat(
            (branch0, self.branch1(branch1), self.branch2(branch2), self.branch3(self.pool(x))), 1
        )


def average_pool(x, size):
    """Averages over windows of `size`, stride 1, or over what is there where that is less."""
    for axis, wanted in zip((2, 3, 4), size):
        there = x.shape[axis]
        if there <= wanted:
            x = x.mean(axis, keep_dims=True)
        else:
            starts = range(there - wanted + 1)
            x = ops.concat(
                [x.narrow(axis, start, wanted).mean(axis, keep_dims=True) for start in starts], axis
            )
    return x


class I3D(nn.Cell):
    """Clips (B, 3, T, H, W) with pixels in [-1, 1] -> logits (B, num_classes). T, H and W are free.

    The head averages over windows of 2x7x7, classifies each of them and takes the mean: over time, and where
    frames are larger than 224x224 over places too. The classifier being linear, it meets the mean.

    Args:
        num_classes: classes of the data set; 400 in Kinetics-400.
        keep_prob: share of the pooled features that dropout keeps in training.
        norm_momentum: share of itself that a moving average of batch norm keeps in a step.

    Raises UserError where keep_prob or norm_momentum is no share.
    """

    def __init__(self, num_classes=400, keep_prob=0.5, norm_momentum=0.99):
        super().__init__()
        if norm_momentum > 1:
            raise UserError(f"model.norm_momentum must be at most 1, not {norm_momentum}")
        unit, mixed = (partial(part, momentum=norm_momentum) for part in (Unit, Mixed))
        self.conv1a = Stem(momentum=norm_momentum)
        self.conv2b = unit(64, 64)
        self.conv2c = unit(64, 192, 3)
        self.pool3a = MaxPool((1, 3, 3), (1, 2, 2))
        self.mixed3b = mixed(192, (64, 96, 128, 16, 32, 32))
        self.mixed3c = mixed(256, (128, 128, 192, 32, 96, 64))
        self.pool4a = MaxPool((3, 3, 3), (2, 2, 2))
        self.mixed4b = mixed(480, (192, 96, 208, 16, 48, 64))
        self.mixed4c = mixed(512, (160, 112, 224, 24, 64, 64))
        self.mixed4d = mixed(512, (128, 128, 256, 24, 64, 64))
        self.mixed4e = mixed(512, (112, 144, 288, 32, 64, 64))
        self.mixed4f = mixed(528, (256, 160, 320, 32, 128, 128))
        self.pool5a = MaxPool((2, 2, 2), (2, 2, 2))
        self.mixed5b = mixed(832, (256, 160, 320, 32, 128, 128))
        self.mixed5c = mixed(832, (384, 192, 384, 48, 128, 128))
        self.dropout = Dropout(keep_prob)
        self.classifier = nn.Dense(1024, num_classes)

    def pooled(self, clips):
        """Clips (B, 3, T, H, W) -> averages (B, 1024, T', H', W') of the windows."""
        x = self.pool3a(self.conv2c(self.conv2b(self.conv1a(clips))))  # (B, 192, T/2, H/8, W/8)
        x = self.pool4a(self.mixed3c(self.mixed3b(x)))  # (B, 480, T/4, H/16, W/16)
        x = self.mixed4f(self.mixed4e(self.mixed4d(self.mixed4c(self.mixed4b(x)))))
        x = self.mixed5c(self.mixed5b(self.pool5a(x)))  # (B, 1024, T/8, H/32, W/32)
        return average_pool(x, (2, 7, 7))

    def features(self, clips):
        """Clips (B, 3, T, H, W) -> the (B, 1024) that the classifier meets in evaluation."""
        return self.pooled(clips).mean((2, 3, 4))

    def construct(self, clips, key=None):
        return self.classifier(self.dropout(self.pooled(clips), key).mean((2, 3, 4)))
