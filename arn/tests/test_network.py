"""The network against the independent one (golden.npz, see make_golden.py) and against plain formulas."""

import mindspore as ms
import numpy as np
import pytest
from convert import authors_keys, convert, read_torch
from make_golden import CASES, GOLDEN, TRAINED, clips, weight
from mindspore import nn, ops

from shared_utils.tests.programs import reads_pytorch_files
from src.network import ARN, MaxPool, SelfSupervisionHead, Unit, second_order

PARAMETERS, TEMPORAL = 493_122, 34_673


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN)


def count(cell):
    return sum(parameter.size for parameter in cell.trainable_params())


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def authors_network(golden, way, shot):
    """Spatial attention alone, with the golden weights by the authors' names."""
    network = ARN(way, shot, temporal_attention=False, alpha_s=1.0)
    parameters = {parameter.name: parameter for parameter in network.get_parameters()}
    shapes = {source: parameters[ours].shape for source, ours in authors_keys().items()}
    source = {name: golden[name] if name in golden else weight(name, shape) for name, shape in shapes.items()}
    arrays, initial = convert(
        {**source, "feature_encoder.layer1.1.num_batches_tracked": np.array(1)}, authors_keys()
    )
    assert not initial
    assert set(arrays) == set(parameters)
    for name, array in arrays.items():
        parameters[name].set_data(ms.Tensor(array))
    return network


def close(answer, exact):
    """The peers' rule: within 1e-3 of the largest; float32 noise is below 1e-4 of it."""
    return np.abs(answer - exact).max() <= 1e-3 * np.abs(exact).max()


@pytest.mark.parametrize("case", CASES)
def test_scores_equal_the_independent_network(golden, case):
    way, shot, _, _ = CASES[case]
    network = authors_network(golden, way, shot).set_train(False)
    exact = golden[f"scores {case}"]
    assert exact.std() > 0.1
    assert 0.005 < exact.min() < exact.max() < 0.995  # not saturated
    assert close(network(*(ms.Tensor(clips(case, side)) for side in ("support", "query"))).asnumpy(), exact)


def test_training_scores_equal_the_independent_network(golden):
    way, shot, _, _ = CASES[TRAINED]
    network = authors_network(golden, way, shot).set_train(True)
    answer = network(*(ms.Tensor(clips(TRAINED, side)) for side in ("support", "query"))).asnumpy()
    assert close(answer, golden["training scores"])
    assert not close(answer, golden[f"scores {TRAINED}"])


def test_parameter_counts():
    assert count(ARN(temporal_attention=False)) == PARAMETERS
    assert count(ARN()) == PARAMETERS + TEMPORAL
    # a 16x128x128 clip leaves 1x8x8 positions of 64 channels to the head
    assert (
        count(SelfSupervisionHead(4, (16, 128, 128))) == 2 * (27 * 64 * 64 + 3 * 64) + 4097 * 1024 + 1025 * 4
    )


def test_initialisation_is_the_authors():
    ms.set_seed(1)
    network = ARN()
    conv = network.descriptor.encoder[1].conv
    assert conv.weight.asnumpy().std() == pytest.approx((2 / (3 * 3 * 64)) ** 0.5, rel=0.02)
    assert not conv.bias.asnumpy().any()
    assert network.relation.fc1.weight.asnumpy().std() == pytest.approx(0.01, rel=0.05)
    assert (network.relation.fc1.bias.asnumpy() == 1).all()


def test_descriptor_forgets_the_order_of_time_and_space():
    features = random(2, 16, 4, 5, 6)
    order = np.random.default_rng(1).permutation(4 * 5 * 6)
    shuffled = features.reshape(2, 16, -1)[:, :, order].reshape(features.shape)
    plain, moved = (second_order(ms.Tensor(x), 100.0).asnumpy() for x in (features, shuffled))
    np.testing.assert_allclose(moved, plain, atol=1e-5)
    flat = features.reshape(2, 16, -1).astype(np.float64)
    correlation = flat @ flat.transpose(0, 2, 1)
    correlation /= np.trace(correlation, axis1=1, axis2=2)[:, None, None]
    np.testing.assert_allclose(plain, np.tanh(50 * correlation), atol=1e-5)  # 2 sigmoid(x) - 1 = tanh(x / 2)


def test_attention_weights_the_features():
    """(alpha_t + T)(alpha_s + S) before the pooling, T over time alone and S over space alone."""
    ms.set_seed(2)
    descriptor = ARN(2, 1, 16, sigma=5.0, alpha_t=0.5, alpha_s=1.5).set_train(False).descriptor
    x = ms.Tensor(random(2, 3, 16, 16, 24) * 0.1)
    features = descriptor.encoder(x)
    (temporal,), (spatial,) = descriptor.attend(features)
    assert (features.shape, temporal.shape, spatial.shape) == (
        (2, 16, 4, 4, 6),
        (2, 1, 4, 1, 1),
        (2, 1, 1, 4, 6),
    )
    for attention in (temporal, spatial):
        assert 0 < attention.min() < attention.max() < 1
    weighted = features.asnumpy() * (0.5 + temporal.asnumpy()) * (1.5 + spatial.asnumpy())
    np.testing.assert_allclose(
        descriptor(x).asnumpy(), second_order(ms.Tensor(weighted), 5.0).asnumpy(), atol=1e-5
    )


@pytest.mark.parametrize(
    "switches, gone", [((False, True), "temporal"), ((True, False), "spatial"), ((False, False), "")]
)
def test_attention_can_be_off(switches, gone):
    network = ARN(2, 1, 16, 100.0, *switches)
    assert not [
        parameter.name for parameter in network.get_parameters() if gone and f".{gone}." in parameter.name
    ]
    assert [len(maps) for maps in network.descriptor.attend(ms.Tensor(random(1, 16, 2, 2, 2)))] == list(
        map(int, switches)
    )


def test_any_clip_size(pynative):
    network = ARN(2, 2, 16).set_train(False)
    for shape in [
        (4, 4, 4),
        (4, 5, 9),
        (5, 16, 4),
        (7, 9, 33),
        (13, 19, 15),
        (16, 33, 20),
        (31, 6, 8),
        (33, 12, 28),
        (8, 160, 4),
    ]:
        scores = network(ms.Tensor(random(4, 3, *shape)), ms.Tensor(random(3, 3, *shape))).asnumpy()
        assert scores.shape == (3, 2)
        assert ((scores > 0) & (scores < 1)).all()
        features = network.descriptor.encoder(ms.Tensor(random(1, 3, *shape)))
        assert features.shape[2:] == tuple(extent // 4 for extent in shape)
        head = SelfSupervisionHead(3, shape, 16).set_train(False)
        assert head(features).shape == (1, 3)


def test_scores_of_a_query_do_not_depend_on_the_others(pynative):
    network = ARN(2, 1, 16).set_train(False)
    support, query = ms.Tensor(random(2, 3, 8, 16, 16)), ms.Tensor(random(3, 3, 8, 16, 16))
    together, alone = network(support, query).asnumpy(), network(support, query[1:2]).asnumpy()
    np.testing.assert_allclose(together[1:2], alone, atol=1e-6)
    swapped = network(ms.Tensor(support.asnumpy()[::-1].copy()), query).asnumpy()
    np.testing.assert_allclose(swapped, together[:, ::-1], atol=1e-6)


class Plain(nn.Cell):
    """Unit as everybody writes it: convolution with bias, batch normalisation, ReLU, max pooling."""

    def __init__(self, in_channels, channels, pool, dims):
        super().__init__()
        conv, norm = {2: (nn.Conv2d, nn.BatchNorm2d), 3: (nn.Conv3d, nn.BatchNorm3d)}[dims]
        self.conv = conv(in_channels, channels, 3, pad_mode="pad", padding=1, has_bias=True)
        self.norm = norm(channels)
        self.pool = {
            None: nn.Identity,
            2: lambda: nn.MaxPool2d(2, 2),
            3: lambda: nn.MaxPool3d((2, 2, 2), (2, 2, 2)),
        }[pool and dims]()

    def construct(self, x):
        return self.pool(ops.relu(self.norm(self.conv(x))))


class Weighted(nn.Cell):
    """A number to derive: the sum of a cell's output times a target."""

    def __init__(self, cell, target):
        super().__init__(auto_prefix=False)
        self.cell, self.target = cell, target

    def construct(self, x):
        return (self.cell(x) * self.target).sum()


def twins(dims, pool, in_channels):
    """Unit and Plain with the same weights: gammas of both signs, biases, statistics not at their start."""
    pools = {None: None, 2: nn.MaxPool2d(2, 2), 3: MaxPool((2, 2, 2))}[pool and dims]
    pair = Unit(in_channels, 8, pools, dims), Plain(in_channels, 8, pool, dims)
    rng = np.random.default_rng(dims)
    for name, parameter in pair[1].parameters_dict().items():
        values = rng.normal(size=parameter.shape)
        if name.endswith("moving_variance"):
            values = rng.uniform(0.5, 2, parameter.shape)
        assert name.endswith(("weight", "bias", "gamma", "beta", "moving_mean", "moving_variance"))
        for cell in pair:
            cell.parameters_dict()[name].set_data(ms.Tensor(values.astype(np.float32)))
        assert not name.endswith("gamma") or values.min() < -0.1 < 0.1 < values.max()
    return pair


@pytest.mark.parametrize(
    "in_channels, size, pool",
    [
        (3, (6, 8, 9), True),
        (16, (6, 8, 9), True),  # wide enough for another implementation of the gradient
        (16, (3, 5, 4), False),
        (16, (1, 3, 1), False),
        (2, (8, 9), True),
        (16, (5, 4), False),
    ],
)
def test_unit_is_a_convolution_a_norm_a_relu_and_a_pool(in_channels, size, pool):
    """In training: output, gradients, moving statistics; in evaluation, the output with those statistics."""
    dims, x = len(size), ms.Tensor(random(4, in_channels, *size) * 2 + 0.5)
    shape = [extent // 2 if pool else extent for extent in x.shape[2:]]
    target = ms.Tensor(random(4, 8, *shape, seed=1))
    trained = []
    for cell in twins(dims, pool or None, in_channels):
        cell.set_train(True)
        value, (of_input, of_weights) = ms.value_and_grad(Weighted(cell, target), 0, cell.trainable_params())(
            x
        )
        gradients = {
            parameter.name: gradient.asnumpy()
            for parameter, gradient in zip(cell.trainable_params(), of_weights)
        }
        statistics = {
            name: parameter.asnumpy()
            for name, parameter in cell.parameters_dict().items()
            if "moving" in name
        }
        cell.set_train(False)
        trained.append((value.asnumpy(), of_input.asnumpy(), gradients, statistics, cell(x).asnumpy()))
    unit, plain = trained
    assert set(unit[2]) == set(plain[2])
    assert len(unit[3]) == 2
    np.testing.assert_allclose(unit[0], plain[0], rtol=1e-4)
    np.testing.assert_allclose(unit[1], plain[1], atol=1e-4 * np.abs(plain[1]).max())
    for name, gradient in plain[2].items():
        np.testing.assert_allclose(
            unit[2][name], gradient, atol=1e-3 * max(1, np.abs(gradient).max()), err_msg=name
        )
    for name, values in plain[3].items():
        np.testing.assert_allclose(unit[3][name], values, rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(unit[4], plain[4], atol=1e-4 * np.abs(plain[4]).max())


def test_a_pytorch_file_is_read(tmp_path):
    reads_pytorch_files(read_torch, tmp_path)
