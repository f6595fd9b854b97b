"""Non-local networks (CVPR 2018, arXiv 1711.07971): I3D-ResNet50 with blocks that relate all positions.

A non-local block sums, for each position of the features, over all others, weighted by a pairwise function of
the two positions' features (Section 3.1). The rest is ResNet-50 inflated to 3D (Section 4).
"""

import mindspore as ms
from mindspore import nn, ops
from mindspore.common.initializer import HeNormal, Normal, initializer

from shared_utils.config import UserError
from src.cpu import PairedConv, PairMax, TemporalConv, gradient_of_pooling_is_slow
from src.dropout import Dropout

MODES = ("gaussian", "embedded_gaussian", "dot_product", "concatenation")
# For each stage: which bottlenecks have a convolution over time (Table 1, and mmaction2's pattern).
INFLATED = ((0, 1, 2), (0, 2), (0, 2, 4), (1,))
BOTTLENECKS = (3, 4, 6, 3)


def padded(x, sizes):
    """(B, C, T, H, W) with so many zeros at both ends of T, of H and of W.

    Padding in a convolution that is not the same for all three is exported to ONNX as something else.
    """
    for axis, size in zip((2, 3, 4), sizes):
        if size > 0:
            zeros = ops.zeros((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype)
            x = ops.concat((zeros, x, zeros), axis)
    return x


class Unit(nn.Cell):
    """Convolution and batch normalisation: (B, C, T, H, W) -> (B, D, T', H', W').

    In evaluation they are one, unless x has fewer numbers than the weights; on the CPU convolutions over time
    keep to a faster form of their own.
    """

    def __init__(self, in_channels, channels, kernel=(1, 1, 1), stride=(1, 1, 1)):
        super().__init__()
        self.padding = tuple(extent // 2 for extent in kernel)
        self.conv = nn.Conv3d(
            in_channels,
            channels,
            kernel,
            stride,
            pad_mode="pad",
            padding=tuple(size for size in self.padding for _ in range(2)),
            weight_init=HeNormal(mode="fan_out", nonlinearity="relu"),
        )
        self.norm = nn.BatchNorm3d(channels)
        self.faster = None
        if ms.get_context("device_target") == "CPU":
            if kernel == (3, 1, 1):
                self.faster = TemporalConv(channels)
            elif (kernel, stride[0]) == ((5, 7, 7), 2):
                self.faster = PairedConv(channels)
        self.same = ops.Conv3D(channels, kernel, pad_mode="same") if stride == (1, 1, 1) else None
        self.valid = ops.Conv3D(channels, kernel, stride=stride)
        # Half the time of a broadcast sum. ONNX has it as part of the convolution, behind nothing else.
        self.add_bias = ops.BiasAdd(data_format="NCDHW")

    def construct(self, x):
        if self.faster is not None and (not self.training or self.faster.trains_faster(x.shape)):
            return self.norm(self.faster(x, self.conv.weight))
        if self.training:
            return self.norm(self.conv(x))
        if x.size < self.conv.weight.size:  # folding is a pass over the weights
            return self.norm(self.convolve(x, self.conv.weight))
        weight, bias = self.folded()
        return self.add_bias(self.convolve(x, weight), bias)

    def convolve(self, x, weight):
        """The convolution with `weight`, as it can be exported."""
        return self.same(x, weight) if self.same is not None else self.valid(padded(x, self.padding), weight)

    def folded(self):
        """Weight (D, C, ...) and bias (D,) of the convolution with the normalisation in it."""
        norm = self.norm.bn2d
        scale = norm.gamma / ops.sqrt(norm.moving_variance + norm.eps)  # (D,)
        bias = norm.beta - norm.moving_mean * scale
        return self.conv.weight * scale.reshape(-1, 1, 1, 1, 1), bias


class MaxPool(nn.Cell):
    """Max pooling of windows that do not overlap: (B, C, T, H, W) -> (B, C, T', H', W'), rounded down."""

    def __init__(self, size):
        super().__init__()
        self.size, self.keeps_winners = size, gradient_of_pooling_is_slow()
        on_cpu = ms.get_context("device_target") == "CPU"
        self.pairs = PairMax() if on_cpu and size == (2, 1, 1) else None

    def construct(self, x):
        if self.training and self.pairs is not None:
            return self.pairs(x)
        if self.training and self.keeps_winners:
            return ops.max_pool3d(x, self.size, self.size)
        return ops.MaxPool3D(self.size, self.size)(x)


class Embedding(nn.Cell):
    """1x1x1 convolution with bias, then `pool`: (B, C, T, H, W) -> (B, D, positions)."""

    def __init__(self, in_channels, channels, pool=None):
        super().__init__()
        self.pool = nn.Identity() if pool is None else pool
        self.conv = nn.Conv3d(
            in_channels, channels, (1, 1, 1), has_bias=True, weight_init=Normal(0.01), bias_init="zeros"
        )

    def construct(self, x):
        x = self.pool(self.conv.conv3d(x, self.conv.weight))
        return x.reshape(*x.shape[:2], -1) + self.conv.bias.reshape(1, -1, 1)  # meets fewer after pooling


class NonLocal(nn.Cell):
    """x (B, C, T, H, W) -> x + BN(W_z y), where y_i = sum_j f(x_i, x_j) g(x_j) / C(x) (Section 3).

    f is exp(x_i' x_j) (gaussian), exp(theta_i' phi_j) (embedded_gaussian), theta_i' phi_j (dot_product) or
    relu(w_f' [theta_i, phi_j]) (concatenation); C(x) sums f over j in the first two, is the number of j in
    the others. `sub_sample` pools 2x2 of what j runs over (Section 3.3). The norm starts at 0 and so the
    block as the identity.
    """

    def __init__(self, channels, mode, sub_sample):
        super().__init__()
        inner = channels // 2
        self.mode = mode
        self.pool = MaxPool((1, 2, 2)) if sub_sample else nn.Identity()
        self.g = Embedding(channels, inner, self.pool)
        if mode != "gaussian":
            self.theta, self.phi = Embedding(channels, inner), Embedding(channels, inner, self.pool)
        if mode == "concatenation":
            self.w_f = ms.Parameter(initializer(Normal(0.01), (1, 2 * inner, 1, 1)))
        self.out = Unit(inner, channels)
        self.out.norm.bn2d.gamma.set_data(initializer("zeros", (channels,)))

    def construct(self, x):
        g = self.g(x)  # (B, c, M)
        y = self.relate(x, g)  # (B, c, N)
        return x + self.out(y.reshape(*y.shape[:2], *x.shape[2:]))

    def relate(self, x, g):
        """y (B, c, N) at all N positions of x from g (B, c, M) at the M sub-sampled ones."""
        if self.mode == "gaussian":
            theta, phi = (part.reshape(*x.shape[:2], -1) for part in (x, self.pool(x)))
        else:
            theta, phi = self.theta(x), self.phi(x)
        if self.mode == "dot_product":
            # No N x M matrix: (theta' phi) g = theta' (phi g).
            return ops.BatchMatMul()(ops.BatchMatMul(transpose_b=True)(g, phi / g.shape[-1]), theta)
        if self.mode == "concatenation":
            of_theta, of_phi = (
                (half * part).sum(1)
                for half, part in zip(ops.chunk(self.w_f.reshape(1, -1, 1), 2, 1), (theta, phi))
            )  # (B, N) and (B, M)
            f = ops.relu(of_theta.expand_dims(2) + of_phi.expand_dims(1)) / g.shape[-1]  # (B, N, M)
        else:
            f = ops.softmax(ops.BatchMatMul(transpose_a=True)(theta, phi))  # (B, N, M)
        return ops.BatchMatMul(transpose_b=True)(g, f)


class Bottleneck(nn.Cell):
    """Residual block 1x1, 3x3, 1x1 with a convolution over time in the first where `inflated` (Section 4)."""

    def __init__(self, in_channels, width, stride, inflated, non_local, shortcut):
        super().__init__()
        self.conv1 = Unit(in_channels, width, (3, 1, 1) if inflated else (1, 1, 1))
        self.conv2 = Unit(width, width, (1, 3, 3), (1, stride, stride))
        self.conv3 = Unit(width, 4 * width)
        self.shortcut, self.non_local = shortcut, non_local

    def construct(self, x):
        y = self.conv3(ops.relu(self.conv2(ops.relu(self.conv1(x)))))
        return self.non_local(ops.relu(y + self.shortcut(x)))


class Stem(nn.Cell):
    """Convolution 5x7x7 and max pooling 1x3x3: (B, 3, T, H, W) -> (B, 64, T', H / 4, W / 4) (Table 1).

    The pooling reads every `pool_stride_t`-th frame of the convolution alone; evaluation computes no other.
    """

    def __init__(self, conv_stride_t, pool_stride_t):
        super().__init__()
        self.unit = Unit(3, 64, (5, 7, 7), (conv_stride_t, 2, 2))
        self.seldom = ops.Conv3D(64, (5, 7, 7), stride=(conv_stride_t * pool_stride_t, 2, 2))
        self.pool_stride_t = pool_stride_t

    def construct(self, x):
        if self.training:
            x = self.unit(x)
            return ops.relu(ops.max_pool3d(x, (1, 3, 3), (self.pool_stride_t, 2, 2), (0, 1, 1)))
        weight, bias = self.unit.folded()
        x = self.seldom(padded(x, self.unit.padding), weight)
        # Edges repeated, which leaves maxima as they are: ONNX gets a padded MaxPool3D wrong.
        x = ops.concat((x[:, :, :, :1], x, x[:, :, :, -1:]), 3)
        x = ops.concat((x[..., :1], x, x[..., -1:]), 4)
        return ops.relu(ops.MaxPool3D((1, 3, 3), (1, 2, 2))(x) + bias.reshape(1, -1, 1, 1, 1))


@ops.constexpr  # without it a compiled network cannot raise UserError
def _check(shape, frames, side):
    """Raise UserError where clips of `shape` (B, 3, T, H, W) are too small."""
    if shape[2] < frames or min(shape[3:]) < side:
        raise UserError(
            f"the network needs clips of at least {frames} frames of {side}x{side}, "
            f"not {shape[2]} of {shape[3]}x{shape[4]}"
        )


class NonLocalI3D(nn.Cell):
    """Clips (B, 3, T, H, W) -> logits (B, num_classes): I3D-ResNet50 with non-local blocks (Section 4).

    Args:
        keep_prob: of the features in training, before the classifier.
        mode: pairwise function of the blocks, one of MODES.
        blocks: for each of the stages res2 to res5 the bottlenecks, from 0, that a non-local block follows;
            ((), (), (), ()) is the plain I3D.
        sub_sample: whether the blocks relate positions to 2x2 positions' maxima.
        conv1_stride_t, pool1_stride_t: strides in time, 2 and 2 in the paper; pool2 always halves.

    Raises UserError where these do not fit.
    """

    def __init__(
        self,
        num_classes=400,
        keep_prob=0.5,
        mode="dot_product",
        blocks=((), (1, 3), (1, 3, 5), ()),
        sub_sample=True,
        conv1_stride_t=2,
        pool1_stride_t=2,
    ):
        super().__init__()
        if mode not in MODES:
            raise UserError(f"model.mode must be one of {', '.join(MODES)}, not {mode}")
        if len(blocks) != 4 or any(
            set(block) - set(range(count)) for block, count in zip(blocks, BOTTLENECKS)
        ):
            raise UserError(
                f"model.blocks lists for each stage some of its {BOTTLENECKS} bottlenecks, not {blocks}"
            )
        if min(conv1_stride_t, pool1_stride_t) < 1:
            raise UserError(
                "model.conv1_stride_t and model.pool1_stride_t must be at least 1, "
                f"not {conv1_stride_t} and {pool1_stride_t}"
            )
        # pool2 and the sub-sampling need two positions each
        deepest = max((stage for stage in range(4) if sub_sample and blocks[stage]), default=-1)
        self.frames, self.side = (
            conv1_stride_t * pool1_stride_t + 1,
            4 * 2**deepest + 1 if deepest >= 0 else 1,
        )
        self.stem = Stem(conv1_stride_t, pool1_stride_t)
        channels, stages = 64, []
        for stage, count in enumerate(BOTTLENECKS):
            width, bottlenecks = 64 * 2**stage, []
            for number in range(count):
                stride = 2 if stage > 0 and number == 0 else 1
                project = (
                    Unit(channels, 4 * width, stride=(1, stride, stride)) if number == 0 else nn.Identity()
                )
                relate = NonLocal(4 * width, mode, sub_sample) if number in blocks[stage] else nn.Identity()
                inflated = number in INFLATED[stage]
                bottlenecks.append(Bottleneck(channels, width, stride, inflated, relate, project))
                channels = 4 * width
            stages.append(nn.SequentialCell(bottlenecks))
        self.res2, self.res3, self.res4, self.res5 = stages
        self.pool2 = MaxPool((2, 1, 1))
        self.dropout = Dropout(keep_prob)
        self.classifier = nn.Dense(channels, num_classes, weight_init=Normal(0.01), bias_init="zeros")

    def features(self, clips):
        """Clips (B, 3, T, H, W) -> the mean over all positions of what the last stage gives, (B, 2048)."""
        _check(clips.shape, self.frames, self.side)
        x = self.pool2(self.res2(self.stem(clips)))
        return self.res5(self.res4(self.res3(x))).mean((2, 3, 4))

    def construct(self, clips, key=None):
        return self.classifier(self.dropout(self.features(clips), key))
