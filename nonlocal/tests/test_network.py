"""The network against the independent one (golden.npz, see make_golden.py) and against plain formulas."""

import mindspore as ms
import numpy as np
import pytest
from convert import MMACTION2, convert, source_name
from make_golden import CASES, CLASSES, GOLDEN, TRAINED, clip, weight
from mindspore import nn

from shared_utils.config import UserError
from src.inflate import inflate
from src.network import MODES, MaxPool, NonLocal, NonLocalI3D, Stem, Unit
from src.step import mixed_precision

PARAMETERS, PLAIN, EMPTY = 35_397_840, 28_043_472, ((), (), (), ())


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN)


def count(cell):
    return sum(parameter.size for parameter in cell.trainable_params())


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def close(answer, exact):
    """The peers' rule: within 1e-3 of the largest; float32 noise is below 1e-4 of it."""
    return np.abs(answer.asnumpy() - exact).max() <= 1e-3 * np.abs(exact).max()


def golden_network(golden, **settings):
    """With the golden weights by mmaction2's names."""
    network = NonLocalI3D(CLASSES, keep_prob=1.0, **settings)
    parameters = {parameter.name: parameter for parameter in network.get_parameters()}
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    sources = {source_name(name, MMACTION2): shape for name, shape in shapes.items()}
    tensors = {
        name: golden[name] if name in golden else weight(name, shape) for name, shape in sources.items()
    }
    counter = {"backbone.conv1.bn.num_batches_tracked": np.array(1)}
    arrays, initial = convert({**tensors, **counter}, "mmaction2", shapes)
    assert (set(arrays), initial) == (set(parameters), [])
    for name, array in arrays.items():
        parameters[name].set_data(ms.Tensor(array))
    return network.set_train(False)


SETTINGS = {"plain": {"blocks": EMPTY}, "dense": {"conv1_stride_t": 1, "pool1_stride_t": 1}}


@pytest.mark.parametrize("case", CASES)
def test_logits_equal_the_independent_network(golden, pynative, case):
    network = golden_network(golden, **SETTINGS.get(case, {}))
    exact = golden[f"logits {case}"]
    assert exact.std() > 0.5
    assert close(network(ms.Tensor(clip(case, CASES[case]))), exact)


def test_training_logits_equal_the_independent_network(golden):
    """Compiled, as the programs run it; then the statistics and the classifier's features."""
    network = golden_network(golden)
    clips = ms.Tensor(clip(TRAINED, CASES[TRAINED]))
    before = network(clips)
    assert close(before, golden[f"logits {TRAINED}"])
    mean = network.stem.unit.norm.bn2d.moving_mean.asnumpy().copy()  # it shares memory
    network.set_train(True)
    assert close(network(clips), golden["logits training"])
    assert not close(before, golden["logits training"])
    assert np.abs(network.stem.unit.norm.bn2d.moving_mean.asnumpy() - mean).max() > 1e-4


def test_frozen_norms_train_with_the_moving_statistics(golden, pynative):
    network = golden_network(golden)
    clips = ms.Tensor(clip("odd", CASES["odd"]))
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.BatchNorm2d):
            cell.use_batch_statistics = False
    before = {name: value.asnumpy().copy() for name, value in network.parameters_dict().items()}
    assert close(network.set_train(True)(clips), golden["logits odd"])
    for name, value in network.parameters_dict().items():
        assert np.array_equal(value.asnumpy(), before[name]), name


def test_the_classifier_reads_the_features(pynative):
    network = NonLocalI3D(5, blocks=EMPTY).set_train(False)
    clips = ms.Tensor(random(2, 3, 5, 20, 16))
    features = network.features(clips)
    assert features.shape == (2, 2048)
    classifier = [p.name for p in network.get_parameters() if p.name.startswith("classifier.")]
    assert classifier == ["classifier.weight", "classifier.bias"]
    wanted = features.asnumpy() @ network.classifier.weight.asnumpy().T + network.classifier.bias.asnumpy()
    np.testing.assert_allclose(network(clips).asnumpy(), wanted, atol=1e-5)


def test_dropout_in_training_alone(pynative):
    network = NonLocalI3D(5, keep_prob=0.5, blocks=EMPTY)
    features = ms.Tensor(np.ones((4, 2048), np.float32))
    dropped = network.set_train(True).dropout(features).asnumpy()
    assert set(np.unique(dropped)) == {0.0, 2.0}
    assert (network.set_train(False).dropout(features).asnumpy() == 1).all()


def test_parameter_counts():
    assert count(NonLocalI3D()) == PARAMETERS
    assert count(NonLocalI3D(blocks=EMPTY)) == PLAIN


def plain_block(x, weights, mode, pooled):
    """Section 3 with all positions' pairs written out, (C, T, H, W) float64."""
    channels, t, h, w = x.shape

    def maxima(y):
        if not pooled:
            return y.reshape(len(y), -1)
        y = y[:, :, : h // 2 * 2, : w // 2 * 2].reshape(len(y), t, h // 2, 2, w // 2, 2)
        return y.max((3, 5)).reshape(len(y), -1)

    def embed(name):
        bias = weights[f"{name}.conv.bias"][:, None, None, None]
        return np.einsum("dc,cthw->dthw", weights[f"{name}.conv.weight"][..., 0, 0, 0], x) + bias

    g = maxima(embed("g"))
    if mode == "gaussian":
        theta, phi = x.reshape(channels, -1), maxima(x)
    else:
        theta, phi = embed("theta").reshape(channels // 2, -1), maxima(embed("phi"))
    f = np.zeros((theta.shape[1], phi.shape[1]))
    for i, j in np.ndindex(f.shape):
        if mode == "concatenation":
            f[i, j] = max(0, weights["w_f"].ravel() @ np.concatenate([theta[:, i], phi[:, j]]))
        else:
            f[i, j] = theta[:, i] @ phi[:, j]
    f = f / len(phi[0]) if mode in ("dot_product", "concatenation") else np.exp(f)
    f = f if mode in ("dot_product", "concatenation") else f / f.sum(1, keepdims=True)
    y = np.einsum("dc,ci->di", weights["out.conv.weight"][..., 0, 0, 0], np.einsum("ij,cj->ci", f, g))
    variance = weights["out.norm.bn2d.moving_variance"] + 1e-5
    y = (y - weights["out.norm.bn2d.moving_mean"][:, None]) / np.sqrt(variance)[:, None]
    y = y * weights["out.norm.bn2d.gamma"][:, None] + weights["out.norm.bn2d.beta"][:, None]
    return x + y.reshape(x.shape)


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_block_is_the_papers_formula(pynative, mode, pooled):
    block = NonLocal(8, mode, pooled).set_train(False)
    rng, weights = np.random.default_rng(4), {}
    for name, parameter in block.parameters_dict().items():
        values = (
            rng.uniform(0.5, 2, parameter.shape) if "variance" in name else rng.normal(size=parameter.shape)
        )
        weights[name] = values * (0.4 if name.endswith("weight") else 1)
        parameter.set_data(ms.Tensor(weights[name].astype(np.float32)))
    assert ("theta.conv.weight" in weights) == (mode != "gaussian")
    x = random(2, 8, 2, 5, 4)
    answer = block(ms.Tensor(x)).asnumpy()
    for clip_in, clip_out in zip(x.astype(np.float64), answer):
        wanted = plain_block(clip_in, weights, mode, pooled)
        assert np.abs(wanted - clip_in).max() > 0.5
        np.testing.assert_allclose(clip_out, wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize(
    "size, shape", [((1, 2, 2), (3, 5, 4)), ((2, 1, 1), (5, 2, 3)), ((2, 1, 1), (4, 3, 1))]
)
def test_max_pool_is_the_same_on_every_machine(pynative, size, shape):
    """In training it takes what is fast on the CPU at hand: the same values and gradients, also of equals."""
    x, pool, answers = np.round(random(2, 3, *shape)) + 0.25, MaxPool(size).set_train(True), []
    assert (pool.pairs is None) == (size == (1, 2, 2))
    for pairs, winners in ((pool.pairs, False), (None, True), (None, False)):
        pool.pairs, pool.keeps_winners = pairs, winners
        value, gradient = ms.value_and_grad(lambda x: (pool(x) ** 3).sum())(ms.Tensor(x))
        answers.append((value.asnumpy(), gradient.asnumpy()))
    windows = np.prod(np.array(shape) // size)
    assert (answers[0][1] != 0).sum() == 6 * windows  # one winner each
    for same in zip(*answers):
        np.testing.assert_allclose(same[0], same[1], atol=1e-5)
        np.testing.assert_allclose(same[0], same[2], atol=1e-5)


@pytest.mark.parametrize("level", ["O2", "O3"])
def test_half_precision_trains_in_pynative_mode(pynative, level):
    """There the backward pass meets the weight as it is kept, in float32."""
    x, weight = ms.Tensor(random(2, 8, 4, 6, 6)), random(6, 8, 3, 1, 1)

    def gradient(precision):
        unit = Unit(8, 6, (3, 1, 1)).set_train()
        assert unit.faster.trains_faster(x.shape)
        unit.conv.weight.set_data(ms.Tensor(weight))
        mixed_precision(unit, precision)
        loss = ms.value_and_grad(lambda x: (unit(x) ** 3).astype(ms.float32).sum(), None, [unit.conv.weight])
        return loss(x)[1][0].asnumpy()

    exact = gradient("O0")
    assert np.abs(gradient(level) - exact).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize("mode", MODES)
def test_block_starts_as_the_identity(pynative, mode):
    block, x = NonLocal(8, mode, True), ms.Tensor(random(2, 8, 2, 4, 4))
    for training in (False, True):
        np.testing.assert_array_equal(block.set_train(training)(x).asnumpy(), x.asnumpy())


@pytest.mark.parametrize("shape", [(1, 3, 5, 17, 17), (2, 3, 10, 23, 34), (1, 3, 13, 33, 18)])
def test_any_clip_size(pynative, shape):
    network = NonLocalI3D(3).set_train(False)
    assert network(ms.Tensor(random(*shape))).shape == (shape[0], 3)


@pytest.mark.parametrize("shape", [(1, 3, 4, 32, 32), (1, 3, 8, 16, 32), (1, 3, 8, 32, 16)])
def test_too_small_clips_are_told(shape):
    told = f"at least 5 frames of 17x17, not {shape[2]} of {shape[3]}x{shape[4]}"
    with pytest.raises(UserError, match=told):
        NonLocalI3D(3).set_train(False)(ms.Tensor(random(*shape)))


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"mode": "dot"}, "mode must be one of gaussian, .*, not dot"),
        ({"keep_prob": 0.0}, "keep_prob must be above 0 and at most 1"),
        ({"blocks": ((), (1,), ())}, "blocks lists for each stage"),
        ({"blocks": ((), (4,), (), ())}, "blocks lists for each stage"),
        ({"conv1_stride_t": 0}, "must be at least 1, not 0 and 2"),
    ],
)
def test_what_does_not_fit_is_told(settings, told):
    with pytest.raises(UserError, match=told):
        NonLocalI3D(**settings)


def test_inflated_kernel_sees_a_still_clip_as_the_image():
    image, kernel = random(3, 5, 6).astype(np.float64), random(2, 3, 5, 6, seed=1).astype(np.float64)
    inflated = inflate(kernel, 5)
    assert inflated.shape == (2, 3, 5, 5, 6)
    assert inflate(kernel.astype(np.float16), 3).dtype == np.float16
    still = np.repeat(image[:, None], 5, 1)
    np.testing.assert_allclose(
        np.einsum("dcthw,cthw->d", inflated, still), np.einsum("dchw,chw->d", kernel, image), atol=1e-12
    )


class Weighted(nn.Cell):
    """A number to derive: the sum of a cell's output times a target."""

    def __init__(self, cell, target):
        super().__init__(auto_prefix=False)
        self.cell, self.target = cell, target

    def construct(self, x):
        return (self.cell(x) * self.target).sum()


@pytest.mark.parametrize(
    "kernel, stride, shape",
    [
        ((3, 1, 1), (1, 1, 1), (6, 1, 3, 5)),
        ((3, 1, 1), (1, 1, 1), (6, 2, 3, 5)),
        ((3, 1, 1), (1, 1, 1), (6, 5, 3, 5)),
        ((3, 1, 1), (1, 1, 1), (40, 5, 3, 5)),
        ((5, 7, 7), (2, 2, 2), (3, 7, 10, 9)),
        ((5, 7, 7), (2, 2, 2), (3, 8, 9, 12)),
        ((5, 7, 7), (1, 2, 2), (3, 7, 10, 9)),
    ],
)
def test_convolutions_and_gradients_of_the_cpu_are_conv3ds(kernel, stride, shape):
    """The stem's and a unit's convolution in training against that of nn.Conv3d, the norm left out."""
    unit = Stem(stride[0], 2).unit if kernel == (5, 7, 7) else Unit(shape[0], 4, kernel, stride)
    assert (unit.faster is None) == (kernel == (5, 7, 7) and stride[0] == 1)
    if kernel == (3, 1, 1):  # the form that should not be taken
        setattr(unit.faster, "direct" if np.prod(shape[1:]) >= 4 * shape[0] else "to_taps", None)
    padding = tuple(extent // 2 for extent in kernel for _ in range(2))
    plain = nn.Conv3d(shape[0], unit.conv.out_channels, kernel, stride, "pad", padding)
    plain.weight.set_data(unit.conv.weight)
    unit.norm = nn.Identity()
    x = ms.Tensor(random(2, *shape))
    target = ms.Tensor(random(*plain(x).shape, seed=1))
    answers = []
    for cell, weight_ in ((unit.set_train(True), unit.conv.weight), (plain, plain.weight)):
        value, (of_x, of_weight) = ms.value_and_grad(Weighted(cell, target), 0, [weight_])(x)
        answers.append((value.asnumpy(), of_x.asnumpy(), of_weight[0].asnumpy()))
    for ours, theirs in zip(*answers):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())
    if kernel == (3, 1, 1):  # the same in evaluation
        value = Weighted(unit.set_train(False), target)(x).asnumpy()
        np.testing.assert_allclose(value, answers[1][0], atol=1e-3)
