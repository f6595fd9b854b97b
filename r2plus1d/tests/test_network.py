"""The network against the independent one (golden.npz, see make_golden.py) and against plain cells."""

import mindspore as ms
import numpy as np
import onnxruntime
import pytest
from convert import convert, our_weight, published_shape, torchvision_keys
from make_golden import CASES, CLASSES, GOLDEN, MOVED, TRAINED, clips, direction, labels, weight
from mindspore import nn

from shared_utils.config import UserError
from src.network import R2Plus1D18

PARAMETERS = 31_505_325  # at 400 classes
NARROW = (8, 12, 16, 20)


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN)


@pytest.fixture(scope="module")
def source(golden):
    """{key of torchvision's layout: array}, the golden weights."""
    blank = {parameter.name: parameter for parameter in R2Plus1D18(CLASSES).get_parameters()}
    shapes = {name: published_shape(ours, blank[ours].shape) for name, ours in torchvision_keys().items()}
    return {name: golden[name] if name in golden else weight(name, shape) for name, shape in shapes.items()}


@pytest.fixture
def network(source):
    return convert(source, torchvision_keys())


def random(*shape):
    return ms.Tensor(np.random.default_rng(shape).normal(size=shape).astype(np.float32))


def close(answer, exact):
    """The peers' rule: within 1e-3 of the largest; float32 noise is below 1e-4 of it."""
    return np.abs(answer - exact).max() <= 1e-3 * np.abs(exact).max()


def logits(network, case):
    return network(ms.Tensor(clips(case))).asnumpy()


@pytest.mark.parametrize("case", CASES)
def test_logits_equal_the_independent_network(golden, network, case):
    assert close(logits(network.set_train(False), case), golden[f"logits {case}"])


def test_logits_without_compiling(golden, network, pynative):
    assert close(logits(network.set_train(False), TRAINED), golden[f"logits {TRAINED}"])
    assert close(logits(network.set_train(True), TRAINED), golden["training logits"])


def test_training_equals_the_independent_network(golden, network):
    """Logits, every parameter's gradient by its length and a component, and moving statistics."""
    network.set_train(True)
    names = {ours: source for source, ours in torchvision_keys().items()}
    loss, target = nn.CrossEntropyLoss(), ms.Tensor(labels(TRAINED).astype(np.int32))

    def forward(x):
        answer = network(x)
        return loss(answer, target), answer

    parameters = network.trainable_params()
    step = ms.value_and_grad(forward, None, parameters, has_aux=True)
    (_, answer), gradients = step(ms.Tensor(clips(TRAINED)))
    assert close(answer.asnumpy(), golden["training logits"])
    assert not close(answer.asnumpy(), golden[f"logits {TRAINED}"])
    for parameter, gradient in zip(parameters, gradients):
        name, values = names[parameter.name], gradient.asnumpy().astype(np.float64)
        length, along = golden[f"gradient {name}"]
        assert np.sqrt((values**2).sum()) == pytest.approx(length, rel=1e-2), name
        axis = direction(name, published_shape(parameter.name, parameter.shape))
        # a component is that small beside the length, and so is its noise
        near = 0.05 * length / values.size**0.5
        assert (values * our_weight(axis, values.shape)).sum() == pytest.approx(along, abs=near), name
    moved = network.parameters_dict()
    for name in (f"{norm}.{kind}" for norm in MOVED for kind in ("running_mean", "running_var")):
        ours = moved[torchvision_keys()[name]].asnumpy()
        np.testing.assert_allclose(ours, golden[f"moved {name}"], rtol=1e-3, atol=1e-4)


def test_parameter_count():
    assert sum(parameter.size for parameter in R2Plus1D18().trainable_params()) == PARAMETERS


def test_initialisation_is_torchvisions():
    ms.set_seed(1)
    network = R2Plus1D18(400)
    conv = network.blocks[2].conv1.space.conv  # 230 x 64 x 1 x 3 x 3
    assert conv.weight.asnumpy().std() == pytest.approx((2 / (9 * 230)) ** 0.5, rel=0.02)
    assert network.classifier.weight.asnumpy().std() == pytest.approx(0.01, rel=0.02)
    assert not network.classifier.bias.asnumpy().any()


def test_only_the_classifier_knows_the_classes():
    names = [
        {(parameter.name, parameter.shape) for parameter in R2Plus1D18(classes, NARROW).get_parameters()}
        for classes in (3, 5)
    ]
    assert {name.split(".")[0] for name, _ in names[0] ^ names[1]} == {"classifier"}


def test_logits_are_the_classifier_of_the_features(network):
    network.set_train(False)
    x = ms.Tensor(clips("least"))
    features = network.features(x)
    assert features.shape == (2, 512)
    wanted = features.asnumpy() @ network.classifier.weight.asnumpy().T + network.classifier.bias.asnumpy()
    np.testing.assert_allclose(network(x).asnumpy(), wanted, atol=1e-4)


def test_normalisations_can_be_frozen(golden, network):
    """Training with the moving statistics, which then stay."""
    norms = [cell for _, cell in network.cells_and_names() if isinstance(cell, nn.BatchNorm2d)]
    assert len(norms) == 2 + 8 * 4 + 3
    for norm in norms:
        norm.use_batch_statistics = False
    before = network.stem.space.norm.moving_mean.asnumpy()
    assert close(logits(network.set_train(True), TRAINED), golden[f"logits {TRAINED}"])
    assert np.array_equal(network.stem.space.norm.moving_mean.asnumpy(), before)


def test_dropout_in_training_alone():
    ms.set_seed(3)
    network, x = R2Plus1D18(200, NARROW, keep_prob=0.5), random(2, 3, 4, 24, 24)
    whole = network.set_train(False)(x).asnumpy()
    assert np.array_equal(network(x).asnumpy(), whole)
    network.set_train(True)
    assert not np.array_equal(network(x).asnumpy(), network(x).asnumpy())
    share = (network.dropout(random(1, 10_000)).asnumpy() != 0).mean()
    assert share == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    "wrong, told",
    [
        ({"num_classes": 0}, "num_classes must be at least 1"),
        ({"stage_channels": [64, 128, 256]}, "four positive numbers, not"),
        ({"stage_channels": (64, 128, 0, 512)}, "four positive numbers, not"),
        ({"stage_strides": [[1, 1, 1]] * 3}, "four times three positive numbers"),
        ({"stage_strides": [[1, 1, 1]] * 3 + [[2, 2]]}, "four times three positive numbers"),
        ({"stage_strides": [[1, 1, 1]] * 3 + [[2, 2, 0]]}, "four times three positive numbers"),
        ({"keep_prob": 0.0}, "keep_prob must be above 0"),
        ({"keep_prob": 1.5}, "at most 1, not 1.5"),
    ],
)
def test_wrong_numbers_are_told(wrong, told):
    with pytest.raises(UserError, match=told):
        R2Plus1D18(**wrong)


def test_other_strides(pynative):
    """Lists as a YAML file gives them; a stage that keeps its size still may change its width."""
    network = R2Plus1D18(4, list(NARROW), [[1, 2, 2], [2, 1, 1], [1, 1, 1], [2, 2, 2]]).set_train(False)
    stages, x = [], network.stem(random(1, 8, 3, 32, 40))
    for number, block in enumerate(network.blocks):
        x = block(x)
        if number % 2:
            stages.append(x.shape[1:])
    assert stages == [(8, 8, 8, 10), (4, 12, 8, 10), (4, 16, 8, 10), (2, 20, 4, 5)]  # (T, C, H, W)


@pytest.mark.parametrize("file_format", ["MINDIR", "ONNX"])
def test_export_gives_the_same_logits(tmp_path, file_format):
    ms.set_seed(4)
    network, x = R2Plus1D18(7, NARROW).set_train(False), random(2, 3, 9, 34, 51)
    wanted, path = network(x).asnumpy(), str(tmp_path / f"network.{file_format.lower()}")
    if file_format == "MINDIR":
        ms.export(network, x, file_name=path, file_format="MINDIR")
        answer = nn.GraphCell(ms.load(path))(x).asnumpy()
    else:
        ms.onnx.export(network, x, file_name=path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (answer,) = session.run(None, {session.get_inputs()[0].name: x.asnumpy()})
    assert np.abs(answer - wanted).max() <= 1e-4 * np.abs(wanted).max()
