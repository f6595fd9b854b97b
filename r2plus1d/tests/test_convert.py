"""Conversion of published weights: every tensor is accounted for, or one line tells which is not."""

from pathlib import Path

import convert
import mindspore as ms
import numpy as np
import pytest

from shared_utils import checkpoint
from shared_utils.config import UserError
from shared_utils.tests.programs import reads_pytorch_files
from src.network import R2Plus1D18

CLASSES = 5
pytestmark = pytest.mark.usefixtures("pynative")


@pytest.fixture(scope="module")
def tensors():
    """{key of the MindSpore port: array} of random weights for 5 classes."""
    random, network = np.random.default_rng(0), R2Plus1D18(CLASSES)
    parameters = network.parameters_dict()
    shapes = {key: parameters[ours].shape for key, ours in convert.zjut_keys().items()}
    shapes = {key: convert.published_shape(convert.zjut_keys()[key], shape) for key, shape in shapes.items()}
    return {
        key: (random.uniform(0.5, 1, shape) * (2 / np.prod(shape[1:])) ** 0.5).astype(np.float32)
        for key, shape in shapes.items()
    }


def write(path, tensors):
    ms.save_checkpoint([{"name": name, "data": ms.Tensor(data)} for name, data in tensors.items()], str(path))
    return path


def test_port_to_checkpoint(tensors, tmp_path, capsys):
    names = ("moments.classifier.bias", "accum.classifier.bias", "moment1.classifier.bias", "beta1_power")
    state = {**{name: np.zeros(1, np.float32) for name in names}, "global_step": np.zeros(1, np.int32)}
    source, dest = write(tmp_path / "source.ckpt", {**tensors, **state}), tmp_path / "ours" / "dest.ckpt"
    dest.parent.mkdir()
    dest.with_suffix(".labels.json").write_text('{"of what was there": 0}')
    convert.main([str(source), str(dest), "--layout", "zjut"])
    told = capsys.readouterr().out
    assert "blocks.7.conv2.time.conv.weight [1536, 1152, 1, 1]" in told
    assert f"{len(tensors)} tensors, " in told
    assert "logits of a seeded clip are equal; the highest: " in told
    assert [path.name for path in dest.parent.iterdir()] == ["dest.ckpt"]
    network = R2Plus1D18(CLASSES)
    checkpoint.load_weights(network, dest)
    parameters = network.parameters_dict()
    assert set(parameters) == set(convert.zjut_keys().values()) == set(convert.torchvision_keys().values())
    key = "layer2.0.conv12.conv1_1.features.0.weight"
    for tap in range(3):
        ours = parameters["blocks.2.conv1.time.conv.weight"].asnumpy()[128 * tap : 128 * (tap + 1), :, 0, 0]
        assert np.array_equal(ours, tensors[key][:, :, tap, 0, 0])
    key = "layer2.0.down_sample.features.1.bn2d.moving_mean"
    assert np.array_equal(parameters["blocks.2.shortcut.norm.moving_mean"].asnumpy(), tensors[key])


def test_tensors_that_do_not_fit_are_told(tensors):
    wrong = {**tensors, "layer1.0.extra": np.zeros(1), "conv1.1.bn2d.beta": np.zeros(46)}
    del wrong["layer4.1.conv12.conv2_1.features.0.weight"]
    with pytest.raises(UserError) as caught:
        convert.convert(wrong, convert.zjut_keys())
    assert str(caught.value) == (
        "not this layout, 3 tensors differ: unexpected layer1.0.extra; "
        "missing layer4.1.conv12.conv2_1.features.0.weight; conv1.1.bn2d.beta is [46] instead of [45]"
    )
    with pytest.raises(UserError, match=r"374 tensors differ: unexpected conv1.0.weight"):
        convert.convert(tensors, convert.torchvision_keys())


def test_nothing_is_left_of_a_failure(tensors, tmp_path):
    (dest := tmp_path / "dest.ckpt").write_text("before")
    key = "layer2.0.conv12.conv1_1.features.0.weight"  # a rectifier makes 0 of a NaN: the logits are fine
    source = write(tmp_path / "source.ckpt", {**tensors, key: np.full_like(tensors[key], np.nan)})
    with pytest.raises(UserError, match=f"1 tensors differ: {key} is not finite"):
        convert.main([str(source), str(dest), "--layout", "zjut"])
    with pytest.raises(UserError, match="no file at"):
        convert.main([str(tmp_path / "none.ckpt"), str(dest), "--layout", "zjut"])
    with pytest.raises(UserError, match="cannot be read"):
        convert.main([str(Path(__file__)), str(dest), "--layout", "zjut"])
    assert dest.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dest.ckpt", "source.ckpt"]


def test_a_pytorch_file_is_read(tmp_path):
    reads_pytorch_files(convert.read_torch, tmp_path)
