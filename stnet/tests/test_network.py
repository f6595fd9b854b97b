"""The network against the independent one (golden.npz, see make_golden.py) and against plain formulas."""

import mindspore as ms
import numpy as np
import pytest
from convert import MINDSPORE_AI, convert
from make_golden import CASES, CLASSES, TRAINED, clip, statistic, weight

from shared_utils import exporting
from shared_utils.config import UserError
from src.inflate import source_name, super_image_kernels
from src.network import StNet, TemporalBlock


def count(cell):
    return sum(parameter.size for parameter in cell.trainable_params())


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def close(answer, exact):
    """The peers' rule: within 1e-3 of the largest; float32 noise is below 1e-4 of it."""
    return np.abs(answer.asnumpy() - exact).max() <= 1e-3 * np.abs(exact).max()


# mindspore-ai's names of a norm's parameters, and the golden file's, which are torch's.
LEAVES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def golden_network(golden, case):
    """With the golden weights, by mindspore-ai's names."""
    shape, dense, same = CASES[case]
    network = StNet(CLASSES, shape[2] // 3, depthwise=not dense, same_pool=same)
    parameters = {parameter.name: parameter for parameter in network.get_parameters()}
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    tensors = {}
    for ours, shape_ in shapes.items():
        source = source_name(ours, MINDSPORE_AI)
        name = source.replace("down_sample_layer", "downsample").replace("bn1.bn2d", "bn1")
        stem, _, leaf = name.rpartition(".")
        name = f"{stem}.{LEAVES.get(leaf, leaf)}"
        if "running" in name:
            tensors[source] = statistic(golden, name, dense)
        else:
            tensors[source] = weight(name, tuple(shape_))
    arrays, initial = convert(tensors, "mindspore-ai", shapes)
    assert (set(arrays), initial) == (set(parameters), [])
    for name, array in arrays.items():
        parameters[name].set_data(ms.Tensor(array))
    return network.set_train(False)


@pytest.mark.parametrize("case", CASES)
def test_logits_equal_the_independent_network(golden, pynative, case):
    network = golden_network(golden, case)
    exact = golden[f"logits {case}"]
    assert exact.std() > 0.5
    assert close(network(ms.Tensor(clip(case, CASES[case][0]))), exact)


def test_training_logits_equal_the_independent_network(golden):
    """Compiled, as the programs run it; then the statistics."""
    network = golden_network(golden, TRAINED)
    clips = ms.Tensor(clip(TRAINED, CASES[TRAINED][0]))
    before = network(clips)
    assert close(before, golden[f"logits {TRAINED}"])
    mean = network.stem.norm.moving_mean.asnumpy().copy()  # it shares memory
    network.set_train(True)
    assert close(network(clips), golden["logits training"])
    assert not close(before, golden["logits training"])
    assert np.abs(network.stem.norm.moving_mean.asnumpy() - mean).max() > 1e-4


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        ({}, 32_852_389),
        ({"num_classes": 400}, 33_158_864),
        ({"depthwise": False}, 48_571_813),
        ({"depth": 101}, 51_844_517),
        ({"depth": 152}, 67_488_165),
    ],
)
def test_parameter_counts(settings, parameters):
    """The deeper ones: the difference of torchvision's resnet101 and resnet152 to its resnet50 is added."""
    assert count(StNet(**settings)) == parameters


def test_the_classifier_reads_the_features(pynative):
    network = StNet(5, N=2).set_train(False)
    clips = ms.Tensor(random(2, 3, 6, 33, 40))
    features = network.features(clips).asnumpy()
    assert features.shape == (2, 1024)
    wanted = features @ network.classifier.weight.asnumpy().T + network.classifier.bias.asnumpy()
    np.testing.assert_allclose(network(clips).asnumpy(), wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("same_pool, size", [(False, (8, 7)), (True, (8, 6)), (True, (5, 8))])
def test_max_pool_is_the_same_on_every_machine(pynative, same_pool, size):
    """In training without AVX-512 it keeps the places of the maxima: the same values and gradients."""
    network, x = StNet(3, same_pool=same_pool), ms.Tensor(random(6, 4, *size).clip(0))
    shape = network.set_train(False).pool(x).shape
    target, answers = ms.Tensor(random(*shape, seed=1)), []
    network.set_train(True)
    for network.keeps_winners in (True, False):
        value, gradient = ms.value_and_grad(lambda x: (network.pool(x) * target).sum())(x)
        answers.append((value.asnumpy(), gradient.asnumpy() * (x.asnumpy() > 0)))  # a ReLU is before it
    assert np.abs(answers[0][1]).max() > 1
    for one, other in zip(*answers):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_segments_are_related_in_their_order(pynative):
    """A temporal block that looks one segment back shifts, and never into another clip."""
    block = TemporalBlock(2).set_train(False)
    weights = np.zeros((2, 2, 3, 1, 1), np.float32)
    weights[[0, 1], [0, 1], 0] = 1  # the tap of the segment before
    block.conv.weight.set_data(ms.Tensor(weights))
    block.conv.bias.set_data(ms.Tensor(np.zeros(2, np.float32)))
    x = np.abs(random(2, 4, 2, 3, 3))  # (B, T, C, H, W)
    moved = np.concatenate([np.zeros_like(x[:, :1]), x[:, :-1]], 1) / np.sqrt(1 + 1e-5)
    found = block(ms.Tensor(x.reshape(8, 2, 3, 3)), 2).asnumpy()
    np.testing.assert_allclose(found.reshape(x.shape), x + moved, atol=1e-5)


def test_inflated_kernels_see_a_still_grey_super_image_as_the_image():
    image, kernel = random(5, 6).astype(np.float64), random(2, 3, 5, 6, seed=1).astype(np.float64)
    inflated = super_image_kernels(kernel, 4)
    assert inflated.shape == (2, 12, 5, 6)
    still = np.repeat(image[None], 12, 0)
    wanted = np.einsum("dchw,hw->d", kernel, image)
    np.testing.assert_allclose(np.einsum("dchw,chw->d", inflated, still), wanted, atol=1e-12)


@pytest.mark.parametrize("same_pool", [False, True])
@pytest.mark.parametrize("file_format", ["MINDIR", "ONNX"])
def test_export_equals_the_network(tmp_path, file_format, same_pool):
    network = StNet(3, N=2, same_pool=same_pool)
    _, proof = exporting.export(network, [random(2, 3, 6, 44, 33)], tmp_path / "net", file_format)
    assert "reloaded, largest difference" in proof


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"depth": 34}, "depth must be one of 50, 101, 152, not 34"),
        ({"N": 0}, "num_classes and N must be at least 1, not 101 and 0"),
    ],
)
def test_what_does_not_fit_is_told(settings, told):
    with pytest.raises(UserError, match=told):
        StNet(**settings)


def test_super_images_of_another_depth_are_told():
    with pytest.raises(UserError, match=r"takes super-images \(B, T, 15, H, W\), not \[1, 7, 3, 112, 112\]"):
        StNet(3).set_train(False)(ms.Tensor(random(1, 7, 3, 112, 112)))
