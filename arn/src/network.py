"""ARN: few-shot action recognition with permutation-invariant attention (ECCV 2020, arXiv 2001.03905).

A clip becomes a second-order descriptor: a four-layer 3D encoder, attention over time and over space, the
power-normalised autocorrelation of what is left. A relation network scores how alike two descriptors are.
"""

import mindspore as ms
from mindspore import nn, ops
from mindspore.common.initializer import Normal, initializer

from shared_utils.config import UserError
from src.cpu import Conv3, PooledConv2


class MaxPool(nn.Cell):
    """Max pooling of (B, C, T, H, W) by `size`, or by what is there where that is less; the rest is cut.

    In training adaptive pooling does it, which keeps the winners' places: without them the gradient has to
    search for them again, which takes the CPU five times as long.
    """

    def __init__(self, size):
        super().__init__()
        self.size = size

    def construct(self, x):
        size = tuple(min(wanted, there) for wanted, there in zip(self.size, x.shape[2:]))
        if not self.training:
            return ops.MaxPool3D(size, size)(x)
        t, h, w = (there // wanted for wanted, there in zip(size, x.shape[2:]))
        whole = (t * size[0], h * size[1], w * size[2])
        if whole != x.shape[2:]:
            x = x[:, :, : whole[0], : whole[1], : whole[2]]
        return ops.adaptive_max_pool3d(x, (t, h, w))


class Unit(nn.Cell):
    """Convolution 3x3x3 (3x3 with dims=2) with bias, batch normalisation, max pooling, ReLU.

    ReLU comes last because it commutes with the pooling and then meets fewer elements. In evaluation the
    normalisation is folded into the convolution. In training the bias cancels against the batch's mean, and
    only the moving mean needs it.
    """

    def __init__(self, in_channels, channels, pool=None, dims=3):
        super().__init__()
        conv, norm = {2: (nn.Conv2d, nn.BatchNorm2d), 3: (nn.Conv3d, nn.BatchNorm3d)}[dims]
        self.conv = conv(in_channels, channels, 3, pad_mode="pad", padding=1, has_bias=True)
        self.norm = norm(channels)
        self.convolve = self.conv.conv2d if dims == 2 else self.conv.conv3d  # without the bias
        self.pool, self.convolve_and_pool = pool, None
        if ms.get_context("device_target") == "CPU":
            if in_channels >= 16:
                self.convolve = Conv3(channels, dims)
            elif dims == 2 and pool is not None:
                self.convolve_and_pool = PooledConv2(channels)
        # Half the time of a broadcast sum. ONNX has it as part of the convolution, behind nothing else.
        self.add_bias = ops.BiasAdd(data_format="NCDHW" if dims == 3 else "NCHW")
        self.dims = dims

    def construct(self, x):
        norm = self.norm.bn2d if self.dims == 3 else self.norm
        if self.training:
            x = self.norm(self.convolve(x, self.conv.weight))
            ops.assign_add(norm.moving_mean, norm.momentum * self.conv.bias)
            return ops.relu(x if self.pool is None else self.pool(x))
        scale = norm.gamma / ops.sqrt(norm.moving_variance + norm.eps)  # (C,)
        bias = (self.conv.bias - norm.moving_mean) * scale + norm.beta
        weight = self.conv.weight * scale.reshape((-1,) + (1,) * (self.dims + 1))
        if self.pool is None:
            return ops.relu(self.add_bias(self.convolve(x, weight), bias))
        if self.convolve_and_pool is not None:
            x = self.convolve_and_pool(x, weight)
        else:
            x = self.pool(self.convolve(x, weight))
        return ops.relu(x + bias.reshape((1, -1) + (1,) * self.dims))


class Encoder(nn.SequentialCell):
    """Conv-4-64 in 3D: clips (B, 3, T, H, W) -> features (B, C, T/4, H/4, W/4), rounded down (Section 3)."""

    def __init__(self, channels):
        super().__init__(
            Unit(3, channels, MaxPool((2, 2, 2))),
            Unit(channels, channels, MaxPool((2, 2, 2))),
            Unit(channels, channels),
            Unit(channels, channels),
        )


class TemporalAttention(nn.Cell):
    """Which moments matter: features (B, C, T, H, W) -> (B, 1, T, 1, 1) in (0, 1)."""

    def __init__(self, channels, hidden=16):
        super().__init__()
        self.layer1 = Unit(channels, hidden, MaxPool((1, 4, 4)))
        self.layer2 = Unit(hidden, hidden, MaxPool((1, 8, 8)))
        self.score = nn.Conv3d(hidden, 1, 1, has_bias=True)

    def construct(self, features):
        x = self.layer2(self.layer1(features))
        if x.shape[3:] != (1, 1):  # frames larger than 128x128 leave several positions
            x = x.max((3, 4), keepdims=True)
        return ops.sigmoid(self.score(x))


class SpatialAttention(nn.Cell):
    """Which places matter: features (B, C, T, H, W) -> (B, 1, 1, H, W) in (0, 1)."""

    def __init__(self, channels, hidden=16):
        super().__init__()
        self.layer1 = Unit(channels, hidden, MaxPool((2, 1, 1)))
        self.layer2 = Unit(hidden, hidden, MaxPool((2, 1, 1)))
        self.score = nn.Conv3d(hidden, 1, 1, has_bias=True)

    def construct(self, features):
        x = self.layer2(self.layer1(features))
        if x.shape[2] != 1:  # clips of more than 31 frames leave several steps
            x = x.max(2, keepdims=True)
        return ops.sigmoid(self.score(x))


def second_order(features, sigma):
    """Features (B, C, T, H, W) -> descriptors (B, C, C) that no permutation of the positions changes.

    Autocorrelation over all positions, divided by its trace, then power-normalised by
    2 * sigmoid(sigma * m) - 1 (Section 3).
    """
    flat = features.reshape(features.shape[0], features.shape[1], -1)  # (B, C, N)
    correlation = ops.BatchMatMul(transpose_b=True)(flat, flat)  # (B, C, C)
    trace = ops.square(flat).sum((1, 2), keepdims=True)
    return 2 * ops.sigmoid(sigma * correlation / (trace + 1e-12)) - 1


class Descriptor(nn.Cell):
    """Clips (B, 3, T, H, W) -> descriptors (B, C, C): encoder, attention, second-order pooling.

    Features are multiplied by (alpha_t + temporal attention)(alpha_s + spatial attention) (Section 3).
    """

    def __init__(self, channels, sigma, temporal_attention, spatial_attention, alpha_t, alpha_s):
        super().__init__()
        self.encoder = Encoder(channels)
        self.temporal = TemporalAttention(channels) if temporal_attention else None
        self.spatial = SpatialAttention(channels) if spatial_attention else None
        self.alpha_t, self.alpha_s, self.sigma = alpha_t, alpha_s, sigma

    def attend(self, features):
        """Temporal [(B, 1, T, 1, 1)] and spatial [(B, 1, 1, H, W)] maps of features; [] where off."""
        temporal = [] if self.temporal is None else [self.temporal(features)]
        spatial = [] if self.spatial is None else [self.spatial(features)]
        return temporal, spatial

    def pool(self, features, temporal, spatial):
        """Descriptors (B, C, C) of features weighted by their attention maps."""
        for attention in temporal:
            features = features * (self.alpha_t + attention)
        for attention in spatial:
            features = features * (self.alpha_s + attention)
        return second_order(features, self.sigma)

    def construct(self, clips):
        features = self.encoder(clips)
        temporal, spatial = self.attend(features)
        return self.pool(features, temporal, spatial)


class RelationNetwork(nn.Cell):
    """Pairs of descriptors (P, 2, C, C), support first -> how alike they are, (P,) in (0, 1)."""

    def __init__(self, size, channels=64):
        super().__init__()
        self.layer1 = Unit(2, channels, nn.MaxPool2d(2, 2), dims=2)
        self.layer2 = Unit(channels, channels, dims=2)
        self.layer3 = Unit(channels, channels, dims=2)
        self.layer4 = Unit(channels, channels, dims=2)
        self.pool = nn.MaxPool2d(2, 2)
        self.fc1 = nn.Dense(channels * (size // 16) ** 2, 8)
        self.fc2 = nn.Dense(8, 1)

    def construct(self, pairs):
        x = self.layer1(pairs)
        x = self.pool(x + self.layer2(x))
        x = self.pool(x + self.layer3(x))
        x = self.pool(x + self.layer4(x))
        x = ops.relu(self.fc1(x.reshape(x.shape[0], -1)))
        return ops.sigmoid(self.fc2(x)).reshape(-1)


def make_pairs(prototypes, queries):
    """Prototypes (way, C, C), queries (Q, C, C) -> pairs (Q * way, 2, C, C), query by query."""
    way, queried, size = prototypes.shape[0], queries.shape[0], queries.shape[-1]
    shape = (queried, way, size, size)
    pairs = ops.stack(
        (prototypes.expand_dims(0).broadcast_to(shape), queries.expand_dims(1).broadcast_to(shape)), 2
    )
    return pairs.reshape(-1, 2, size, size)


class ARN(nn.Cell):
    """Support (way * shot, 3, T, H, W), sorted by class, and queries (Q, 3, T, H, W) -> scores (Q, way).

    Scores are in (0, 1). A class is the mean of its support's descriptors. T, H and W are free, from 4 up.

    Args:
        way, shot: classes of an episode, support clips of a class.
        channels: C, of the encoder and of the descriptors, a multiple of 16; 64 in the paper.
        sigma: slope of the power normalisation, above 0.
        temporal_attention, spatial_attention: whether there is such attention.
        alpha_t, alpha_s: what is added to it; tuned 1.0 and 1.5 on UCF101, 0.5 and 1.0 on HMDB51.

    Raises UserError where way, shot, channels or sigma is none of these.
    """

    def __init__(
        self,
        way=5,
        shot=1,
        channels=64,
        sigma=100.0,
        temporal_attention=True,
        spatial_attention=True,
        alpha_t=1.0,
        alpha_s=1.5,
    ):
        super().__init__()
        _check_channels(channels)
        if min(way, shot) < 1:
            raise UserError(f"model.way and model.shot must be at least 1, not {way} and {shot}")
        if sigma <= 0:
            raise UserError(f"model.sigma must be above 0, not {sigma}: all clips would be alike")
        self.way, self.shot, self.channels = way, shot, channels
        self.descriptor = Descriptor(channels, sigma, temporal_attention, spatial_attention, alpha_t, alpha_s)
        self.relation = RelationNetwork(channels)
        _initialise(self)

    def relate(self, support, query):
        """Descriptors (way * shot, C, C) and (Q, C, C) -> scores (Q, way)."""
        size = support.shape[-1]
        prototypes = support.reshape(self.way, self.shot, size, size).mean((1,))  # (way, C, C)
        return self.relation(make_pairs(prototypes, query)).reshape(-1, self.way)

    def construct(self, support, query):
        descriptors = self.descriptor(ops.concat((support, query)))
        return self.relate(descriptors[: self.way * self.shot], descriptors[self.way * self.shot :])


def _initialise(network):
    """The authors' start: convolutions normal with variance 2 / (kernel height * width * output channels) and
    zero bias, dense layers normal with standard deviation 0.01 and bias 1."""
    for _, cell in network.cells_and_names():
        if isinstance(cell, (nn.Conv2d, nn.Conv3d)):
            spread = (2 / (cell.weight.shape[-2] * cell.weight.shape[-1] * cell.weight.shape[0])) ** 0.5
            cell.weight.set_data(initializer(Normal(spread), cell.weight.shape))
            cell.bias.set_data(initializer("zeros", cell.bias.shape))
        elif isinstance(cell, nn.Dense):
            cell.weight.set_data(initializer(Normal(0.01), cell.weight.shape))
            cell.bias.set_data(initializer("ones", cell.bias.shape))


def _check_channels(channels):
    if channels < 16 or channels % 16:
        raise UserError(f"model.channels must be a multiple of 16, not {channels}")


class SelfSupervisionHead(nn.Cell):
    """Which augmentation was applied: features (B, C, T, H, W) -> logits (B, kinds).

    `clip` is the (T, H, W) of the clips that the features come from.
    """

    def __init__(self, kinds, clip, channels=64):
        """Raises UserError where channels is no multiple of 16."""
        super().__init__()
        _check_channels(channels)
        self.layer1 = Unit(channels, channels, MaxPool((2, 2, 2)))
        self.layer2 = Unit(channels, channels, MaxPool((2, 2, 2)))
        positions = 1
        for extent in clip:
            positions *= max(1, extent // 16)
        self.fc1 = nn.Dense(channels * positions, 1024)
        self.fc2 = nn.Dense(1024, kinds)
        _initialise(self)

    def construct(self, features):
        x = self.layer2(self.layer1(features))
        return self.fc2(ops.relu(self.fc1(x.reshape(x.shape[0], -1))))
