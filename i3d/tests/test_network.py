"""The network against the independent one (golden.npz, see make_golden.py) and against plain formulas."""

import itertools

import mindspore as ms
import numpy as np
import onnxruntime
import pytest
from convert import convert, fill, pytorch_i3d_keys
from make_golden import CASES, CLASSES, TRAINED, clip, objective, probe
from mindspore import nn

from shared_utils.config import UserError
from src.network import I3D, MaxPool, Stem, Unit, average_pool

PARAMETERS = 12_697_264


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def close(answer, exact, share=1e-3):
    """The peers' rule: within 1e-3 of the largest; float32 noise is below 1e-4 of it."""
    return answer.shape == exact.shape and np.abs(answer - exact).max() <= share * np.abs(exact).max()


@pytest.fixture(scope="module")
def network(golden_tensors):
    """The golden network; nothing is dropped."""
    cell = I3D(CLASSES, keep_prob=1)
    assert not fill(cell, convert(golden_tensors, pytorch_i3d_keys()))
    return cell


@pytest.mark.parametrize("case", CASES)
def test_logits_equal_the_independent_network(golden, network, case):
    exact = golden[f"logits {case}"]
    assert exact.std() > 0.5
    x = ms.Tensor(clip(case))
    network.set_train(False)
    assert close(network(x).asnumpy(), exact)


def test_features_are_what_the_classifier_meets(golden, network, pynative):
    features = network.set_train(False).features(ms.Tensor(clip("small")))
    assert features.shape == (2, 1024)
    assert close(network.classifier(features).asnumpy(), golden["logits small"])


class Weighted(nn.Cell):
    """A number to derive: the sum of a cell's output times a target."""

    def __init__(self, cell, target):
        super().__init__(auto_prefix=False)
        self.cell, self.target = cell, ms.Tensor(target.astype(np.float32))

    def construct(self, x):
        answer = self.cell(x)
        return (answer * self.target).sum(), answer


def test_training_equals_the_independent_network(golden, golden_tensors, network):
    """Logits with the batch's statistics; of every gradient its norm and its product with seeded numbers."""
    parameters = network.trainable_params()
    start = {name: ms.Tensor(parameter.asnumpy()) for name, parameter in network.parameters_dict().items()}
    derive = ms.value_and_grad(Weighted(network.set_train(True), objective()), None, parameters, True)
    (_, logits), gradients = derive(ms.Tensor(clip(TRAINED)))
    moved = network.conv1a.norm.bn2d.moving_mean.asnumpy()
    ms.load_param_into_net(network, {name: ms.Parameter(value, name=name) for name, value in start.items()})
    assert close(logits.asnumpy(), golden["training logits"])
    assert not close(logits.asnumpy(), golden[f"logits {TRAINED}"], 0.1)
    assert 0 < np.abs(moved - start["conv1a.norm.bn2d.moving_mean"].asnumpy()).max() < 0.1  # by 1% of the way

    exact = dict(zip(golden["gradient names"].tolist(), golden["gradients"]))
    keys = pytorch_i3d_keys()
    for parameter, gradient in zip(parameters, gradients):
        names, values = keys[parameter.name], gradient.asnumpy().ravel()
        norm = np.linalg.norm([exact[name][0] for name in names])
        probes = np.concatenate([probe(name, golden_tensors[name].size) for name in names])
        # products are of the size of the norm; a winner of a pool may differ in float32
        assert np.linalg.norm(values) == pytest.approx(norm, rel=0.01), parameter.name
        assert values @ probes == pytest.approx(sum(exact[name][1] for name in names), abs=0.05 * norm)


@pytest.mark.parametrize("shape", [(2, 3, 1, 9, 14), (2, 3, 5, 15, 6), (3, 3, 8, 10, 13)])
def test_stem_on_pairs_of_frames_is_that_of_other_devices(shape):
    """Answers of the CPU's form and of Conv3D; in training the gradients of input and weights too."""
    stem, other = Stem(momentum=0.9), Stem(momentum=0.9)
    assert stem.paired is not None
    other.paired = None
    ms.load_param_into_net(other, stem.parameters_dict())
    x = ms.Tensor(random(*shape))
    answers = [[cell.set_train(False)(x).asnumpy()] for cell in (stem, other)]
    target = random(*answers[0][0].shape, seed=1)
    for cell, parts in zip((stem, other), answers):
        derive = ms.value_and_grad(Weighted(cell.set_train(True), target), 0, [cell.conv.weight], True)
        (_, answer), (of_x, of_weight) = derive(x)
        parts += [answer.asnumpy(), of_x.asnumpy(), of_weight[0].asnumpy()]
    for ours, theirs in zip(*answers):
        assert close(ours, theirs, 1e-4)


def test_parameter_count():
    assert sum(parameter.size for parameter in I3D().trainable_params()) == PARAMETERS
    names = [parameter.name for parameter in I3D(11).trainable_params() if 11 in parameter.shape]
    assert names == ["classifier.weight", "classifier.bias"]


def plain_average_pool(x, size):
    """Averages of all windows, by the definition."""
    size = [min(pair) for pair in zip(size, x.shape[2:])]
    counts = [there - wanted + 1 for there, wanted in zip(x.shape[2:], size)]
    answer = np.empty((*x.shape[:2], *counts))
    for place in itertools.product(*map(range, counts)):
        window = tuple(slice(start, start + wanted) for start, wanted in zip(place, size))
        answer[(..., *place)] = x[(..., *window)].mean((2, 3, 4))
    return answer


@pytest.mark.parametrize("shape", [(2, 7, 7), (1, 7, 9), (4, 3, 8), (3, 9, 1)])
def test_average_pool(pynative, shape):
    x = random(2, 3, *shape)
    assert close(average_pool(ms.Tensor(x), (2, 7, 7)).asnumpy(), plain_average_pool(x, (2, 7, 7)), 1e-5)


def plain_max_pool(x, kernel, stride):
    """Pool and gradient of its sum, by the definition: padding by zeros, the first winner of a window."""
    pads = [(0, 0), (0, 0)]
    for there, size, step in zip(x.shape[2:], kernel, stride):
        total = max((-(-there // step) - 1) * step + size - there, 0)
        pads.append((total // 2, total - total // 2))
    padded = np.pad(x, pads)
    counts = [-(-there // step) for there, step in zip(x.shape[2:], stride)]
    answer, gradient = np.empty((*x.shape[:2], *counts), x.dtype), np.zeros_like(padded)
    for place in itertools.product(*map(range, counts)):
        window = tuple(slice(p * step, p * step + size) for p, step, size in zip(place, stride, kernel))
        values = padded[(..., *window)]
        flat = values.reshape(*x.shape[:2], -1)
        answer[(..., *place)] = flat.max(-1)
        winners = np.eye(flat.shape[-1], dtype=x.dtype)[flat.argmax(-1)]  # (B, C, places of the window)
        gradient[(..., *window)] += winners.reshape(values.shape)
    inner = tuple(slice(low, low + there) for (low, _), there in zip(pads[2:], x.shape[2:]))
    return answer, gradient[(..., *inner)]


@pytest.mark.parametrize("avx512", [False, True])
@pytest.mark.parametrize("shape", [(4, 6, 8), (3, 5, 7), (1, 1, 2), (2, 7, 1)])
@pytest.mark.parametrize(
    "kernel, stride",
    [((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((3, 3, 3), (1, 1, 1)), ((2, 2, 2), (2, 2, 2))],
)
def test_max_pool_pads_as_tensorflow(pynative, monkeypatch, kernel, stride, shape, avx512):
    """Both modes; the gradient where the winner is above zero, because the pool follows a ReLU."""
    x = np.maximum(random(2, 3, *shape), 0)
    answer, gradient = plain_max_pool(x, kernel, stride)
    monkeypatch.setattr("src.cpu.gradient_of_pooling_is_slow", lambda: not avx512)
    pool = MaxPool(kernel, stride)
    for training in (False, True):
        np.testing.assert_array_equal(pool.set_train(training)(ms.Tensor(x)).asnumpy(), answer)
    derive = ms.grad(Weighted(pool, np.ones_like(answer)), has_aux=True)
    np.testing.assert_allclose(derive(ms.Tensor(x))[0].asnumpy() * (x > 0), gradient * (x > 0), atol=1e-6)


def test_frozen_normalisation_keeps_its_statistics(pynative):
    """As fine-tuning freezes it: training gives what evaluation gives, and nothing moves."""
    unit, x = Unit(2, 4, 3, momentum=0.99), ms.Tensor(random(2, 2, 3, 4, 5) * 3 + 1)
    for name, parameter in unit.norm.parameters_dict().items():
        parameter.set_data(ms.Tensor(np.random.default_rng(len(name)).uniform(0.5, 2, 4).astype(np.float32)))
    evaluated, statistics = unit.set_train(False)(x).asnumpy(), unit.norm.bn2d.moving_mean.asnumpy().copy()
    unit.norm.bn2d.use_batch_statistics = False
    assert close(unit.set_train(True)(x).asnumpy(), evaluated, 1e-5)
    np.testing.assert_array_equal(unit.norm.bn2d.moving_mean.asnumpy(), statistics)
    unit.norm.bn2d.use_batch_statistics = None
    assert not close(unit(x).asnumpy(), evaluated, 0.1)
    assert not close(unit.norm.bn2d.moving_mean.asnumpy(), statistics, 1e-3)


def test_dropout_is_for_training_alone(pynative):
    ms.set_seed(3)
    network, x = I3D(3, keep_prob=0.5), ms.Tensor(random(2, 3, 4, 40, 40))
    first, second = (network.set_train(False)(x).asnumpy() for _ in range(2))
    np.testing.assert_array_equal(first, second)
    first, second = (network.set_train(True)(x).asnumpy() for _ in range(2))
    assert not close(first, second)


@pytest.mark.parametrize("keep_prob", [0, -0.5, 1.5])
def test_impossible_keep_prob_is_told(keep_prob):
    with pytest.raises(UserError, match=r"model\.keep_prob must be above 0 and at most 1"):
        I3D(keep_prob=keep_prob)


def test_impossible_norm_momentum_is_told():
    with pytest.raises(UserError, match=r"model\.norm_momentum must be at most 1, not 7"):
        I3D(norm_momentum=7)


def test_any_clip_size(pynative):
    network = I3D(3).set_train(False)
    for shape in [(1, 1, 1), (2, 7, 33), (5, 16, 1), (33, 20, 9), (1, 232, 8)]:
        assert np.isfinite(network(ms.Tensor(random(2, 3, *shape))).asnumpy()).all()


@pytest.mark.parametrize("file_format", ["MINDIR", "ONNX"])
def test_export_equals_the_network(network, tmp_path, file_format):
    x = random(1, 3, 17, 33, 228)  # two windows in time and in width
    wanted = network.set_train(False)(ms.Tensor(x)).asnumpy()
    path = str(tmp_path / f"i3d.{file_format.lower()}")
    if file_format == "ONNX":
        ms.onnx.export(network, ms.Tensor(x), file_name=path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        answer = session.run(None, {session.get_inputs()[0].name: x})[0]
    else:
        ms.export(network, ms.Tensor(x), file_name=path, file_format=file_format)
        answer = nn.GraphCell(ms.load(path))(ms.Tensor(x)).asnumpy()
    assert close(answer, wanted, 1e-4)
