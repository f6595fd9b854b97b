"""StNet (AAAI 2019, arXiv 1811.01549): ResNet on super-images, temporal blocks, temporal Xception block.

A super-image is N successive frames with their colours as 3N channels, which 2D convolutions relate (Section
3.1); temporal blocks relate the T segments of a video (Section 3.2), the temporal Xception block the features
that are left of them (Section 3.3).
"""

import cv2
import mindspore as ms
from mindspore import nn, ops
from mindspore.common.initializer import HeNormal, HeUniform, Uniform

from shared_utils.config import UserError

AVX_512F = 13  # OpenCV's number of it
BOTTLENECKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class Unit(nn.Cell):
    """Convolution kxk and batch norm: (B, C, H, W) -> (B, D, H', W').

    In evaluation they are one, unless x has fewer numbers than the weights.
    """

    def __init__(self, in_channels, channels, kernel=1, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            channels,
            kernel,
            stride,
            pad_mode="pad",
            padding=kernel // 2,
            weight_init=HeNormal(mode="fan_out", nonlinearity="relu"),
        )
        self.norm = nn.BatchNorm2d(channels)
        # Half the time of a broadcast sum. ONNX has it as part of the convolution, behind nothing else.
        self.add_bias = ops.BiasAdd()

    def construct(self, x):
        if self.training or x.size < self.conv.weight.size:  # folding is a pass over the weights
            return self.norm(self.conv(x))
        norm = self.norm
        scale = norm.gamma / ops.sqrt(norm.moving_variance + norm.eps)  # (D,)
        bias = norm.beta - norm.moving_mean * scale
        return self.add_bias(self.conv.conv2d(x, self.conv.weight * scale.reshape(-1, 1, 1, 1)), bias)


class Bottleneck(nn.Cell):
    """Residual block 1x1, 3x3 with the stride, 1x1, of images (B, C, H, W)."""

    def __init__(self, in_channels, width, stride, shortcut):
        super().__init__()
        self.conv1 = Unit(in_channels, width)
        self.conv2 = Unit(width, width, 3, stride)
        self.conv3 = Unit(width, 4 * width)
        self.shortcut = shortcut

    def construct(self, x):
        y = self.conv3(ops.relu(self.conv2(ops.relu(self.conv1(x)))))
        return ops.relu(y + self.shortcut(x))


class TemporalBlock(nn.Cell):
    """x -> x + BN(ReLU(convolution 3x1x1 of x)), of segments (B * T, C, H, W) of B clips (Section 3.2)."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv3d(
            channels, channels, (3, 1, 1), pad_mode="same", has_bias=True, weight_init=HeUniform()
        )
        self.norm = nn.BatchNorm3d(channels)

    def construct(self, x, count):
        y = x.reshape(count, -1, *x.shape[1:]).transpose(0, 2, 1, 3, 4)  # (B, C, T, H, W)
        y = self.norm(ops.relu(self.conv(y)))
        return x + y.transpose(0, 2, 1, 3, 4).reshape(x.shape)


class TemporalXception(nn.Cell):
    """Features of the segments (B, C, T, 1) -> (B, width, T, 1) (Section 3.3).

    A convolution over time is depthwise and then 1x1; `depthwise` False makes it dense, as it is in the
    published MindSpore checkpoint.
    """

    def __init__(self, channels=2048, width=1024, depthwise=True):
        super().__init__()

        def over_time(size):
            return nn.Conv2d(
                size,
                size,
                (3, 1),
                pad_mode="same",
                group=size if depthwise else 1,
                has_bias=True,
                weight_init=HeUniform(),
            )

        def pointwise(size):
            return nn.Conv2d(size, width, 1, has_bias=True, weight_init=HeUniform())

        self.norm1, self.norm2, self.norm3 = (nn.BatchNorm2d(size) for size in (channels, width, width))
        self.time1, self.point1 = over_time(channels), pointwise(channels)
        self.time2, self.point2 = over_time(width), pointwise(width)
        self.shortcut = pointwise(channels)

    def construct(self, x):
        x = self.norm1(x)
        y = ops.relu(self.norm2(self.point1(self.time1(x))))
        y = self.point2(self.time2(y))
        return ops.relu(self.norm3(y + self.shortcut(x)))


@ops.constexpr  # without it a compiled network cannot raise UserError
def _check(shape, channels):
    """Raise UserError where super-images of `shape` are not (B, T, channels, H, W)."""
    if len(shape) != 5 or shape[2] != channels:
        raise UserError(f"the network takes super-images (B, T, {channels}, H, W), not {list(shape)}")


class StNet(nn.Cell):
    """Super-images (B, T, 3N, H, W) -> logits (B, num_classes); channel 3n + c is colour c of frame n.

    Args:
        N: frames of a super-image; the count of segments T is the clip's.
        depth: of the ResNet, 50, 101 or 152.
        depthwise: whether the temporal Xception block's convolutions over time are, as in the paper.
        same_pool: pad the first max pooling at the end first, as the published MindSpore checkpoint wants
            it, and not by 1 on all sides.

    Raises UserError where these do not fit.
    """

    def __init__(self, num_classes=101, N=5, depth=50, depthwise=True, same_pool=False):
        super().__init__()
        if depth not in BOTTLENECKS:
            raise UserError(f"depth must be one of {', '.join(map(str, BOTTLENECKS))}, not {depth}")
        if min(num_classes, N) < 1:
            raise UserError(f"num_classes and N must be at least 1, not {num_classes} and {N}")
        self.super_channels, self.same_pool = 3 * N, same_pool
        # MindSpore's gradient pools once more for the places of the maxima: fast with AVX-512 alone.
        on_cpu = ms.get_context("device_target") == "CPU"
        self.keeps_winners = on_cpu and not cv2.checkHardwareSupport(AVX_512F)
        self.stem = Unit(3 * N, 64, 7, 2)
        channels, stages = 64, []
        for stage, count in enumerate(BOTTLENECKS[depth]):
            width, bottlenecks = 64 * 2**stage, []
            for number in range(count):
                stride = 2 if stage > 0 and number == 0 else 1
                project = Unit(channels, 4 * width, 1, stride) if number == 0 else nn.Identity()
                bottlenecks.append(Bottleneck(channels, width, stride, project))
                channels = 4 * width
            stages.append(nn.SequentialCell(bottlenecks))
        self.res2, self.res3, self.res4, self.res5 = stages
        self.temporal3, self.temporal4 = TemporalBlock(512), TemporalBlock(1024)
        self.xception = TemporalXception(depthwise=depthwise)
        self.classifier = nn.Dense(1024, num_classes, weight_init=Uniform(1 / 32), bias_init="zeros")

    def pool(self, x):
        """Max pooling 3x3 of stride 2 over space of an x that is not negative."""
        for axis in (2, 3):
            size = x.shape[axis]
            first, last = x.narrow(axis, 0, 1), x.narrow(axis, size - 1, 1)
            # Edges repeated, which leaves maxima as they are: MaxPool pads at the end first.
            x = ops.concat((x, last) if self.same_pool and size % 2 == 0 else (first, x, last), axis)
        if self.training and self.keeps_winners:
            return ops.max_pool3d(x.expand_dims(2), (1, 3, 3), (1, 2, 2)).squeeze(2)
        return ops.MaxPool(3, 2)(x)

    def features(self, clips):
        """Super-images (B, T, 3N, H, W) -> the maximum over the segments, (B, 1024)."""
        _check(clips.shape, self.super_channels)
        b, t = clips.shape[:2]
        x = clips.reshape(b * t, *clips.shape[2:])
        x = self.pool(ops.relu(self.stem(x)))
        x = self.temporal3(self.res3(self.res2(x)), b)
        x = self.res5(self.temporal4(self.res4(x), b))
        x = x.mean((2, 3)).reshape(b, t, -1, 1).swapaxes(1, 2)  # (B, 2048, T, 1)
        return self.xception(x).max((2, 3))

    def construct(self, clips):
        return self.classifier(self.features(clips))
