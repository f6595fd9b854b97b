"""Published layouts to our checkpoint: every tensor accounted for, the file proved, nothing half-finished."""

import convert
import mindspore as ms
import numpy as np
import pytest

from shared_utils import checkpoint
from shared_utils.config import UserError
from shared_utils.tests.programs import reads_pytorch_files
from src.inflate import source_name, super_image_kernels
from src.network import StNet

pytestmark = pytest.mark.usefixtures("pynative")
CLASSES = 7


def keys(rules, image, **settings):
    """{source's key: shape} of a layout; `image`: a ResNet of images."""
    shapes = {p.name: tuple(p.shape) for p in StNet(CLASSES, **settings).get_parameters()}
    if image:
        shapes = {
            name: shape
            for name, shape in shapes.items()
            if not name.startswith(("temporal", "xception", "classifier"))
        }
        shapes["stem.conv.weight"] = (64, 3, 7, 7)
    return {source_name(name, rules): shape for name, shape in shapes.items()}


def filled(shapes):
    rng = np.random.default_rng(1)
    return {
        name: rng.uniform(0.5, 1.5, shape).astype(np.float32)
        if len(shape) == 1
        else (rng.standard_normal(shape, np.float32) * (2 / np.prod(shape[1:])) ** 0.5)
        for name, shape in shapes.items()
    }


def save(path, tensors):
    checkpoint.save(path, {name: ms.Parameter(array) for name, array in tensors.items()})


def test_the_published_port(tmp_path, capsys):
    tensors = filled(keys(convert.MINDSPORE_AI, image=False, depthwise=False))
    # Names as the port's code makes them, written out.
    for name in (
        "conv1.weight",
        "bn1.moving_mean",
        "layer2.0.down_sample_layer.1.gamma",
        "layer4.2.conv3.weight",
        "temp1.conv1.bias",
        "temp2.bn1.bn2d.moving_variance",
        "xception.att_conv.weight",
        "xception.att1_2.bias",
        "xception.dw.weight",
        "xception.bn3.beta",
        "fc.weight",
    ):
        assert name in tensors, name
    assert tensors["conv1.weight"].shape == (64, 15, 7, 7)
    assert tensors["xception.att_conv.weight"].shape == (2048, 2048, 3, 1)
    save(tmp_path / "port.ckpt", {**tensors, "moments.fc.weight": tensors["fc.weight"]})
    (tmp_path / "ours.labels.json").write_text('{"of what was there": 0}')
    convert.main([str(tmp_path / "port.ckpt"), str(tmp_path / "ours.ckpt"), "--layout", "mindspore-ai"])
    assert not (tmp_path / "ours.labels.json").exists()
    told = capsys.readouterr().out
    assert "network: same_pool=True, num_classes=7, N=5, depthwise=False" in told
    assert "reloaded, equal logits" in told and f"{len(tensors)} tensors" in told
    network = StNet(CLASSES, depthwise=False, same_pool=True)
    checkpoint.load_weights(network, tmp_path / "ours.ckpt")
    weights = network.parameters_dict()
    for ours, theirs in (
        ("stem.conv.weight", tensors["conv1.weight"]),
        ("temporal4.norm.bn2d.gamma", tensors["temp2.bn1.bn2d.gamma"]),
        ("xception.time2.weight", tensors["xception.att_1.weight"]),
        ("xception.norm2.beta", tensors["xception.bn2.beta"]),
        ("classifier.bias", tensors["fc.bias"]),
    ):
        np.testing.assert_array_equal(weights[ours].asnumpy(), theirs)


@pytest.mark.parametrize("layout", ["torchvision-resnet50", "mindspore-resnet50"])
def test_imagenet_weights_are_inflated(tmp_path, capsys, monkeypatch, layout):
    rules = convert.LAYOUTS[layout][1]
    tensors = filled(keys(rules, image=True))
    if layout == "torchvision-resnet50":
        names = ("layer3.0.downsample.0.weight", "layer3.0.downsample.1.running_var", "bn1.bias")
        tensors.update({"fc.weight": np.zeros((1000, 2048)), "bn1.num_batches_tracked": np.array(1)})
        monkeypatch.setitem(convert.LAYOUTS, layout, (lambda path: tensors, rules))  # no torch here
        (tmp_path / "source.ckpt").touch()
    else:
        names = (
            "layer3.0.down_sample_layer.0.weight",
            "layer3.0.down_sample_layer.1.moving_variance",
            "bn1.beta",
        )
        tensors.update({"end_point.weight": np.zeros((1001, 2048), np.float32)})
        save(tmp_path / "source.ckpt", tensors)
    assert all(name in tensors for name in names)
    convert.main(
        [
            str(tmp_path / "source.ckpt"),
            str(tmp_path / "ours.ckpt"),
            "--layout",
            layout,
            "--class_num",
            "3",
            "--N",
            "2",
        ]
    )
    told = capsys.readouterr().out
    assert "not in the source, as initialised: temporal3.conv.weight" in told
    network = StNet(3, N=2)
    checkpoint.load_weights(network, tmp_path / "ours.ckpt")
    weights = network.parameters_dict()
    stem = weights["stem.conv.weight"].asnumpy()
    np.testing.assert_allclose(stem, super_image_kernels(tensors["conv1.weight"], 2), rtol=1e-6)
    for ours, key in zip(
        ("res4.0.shortcut.conv.weight", "res4.0.shortcut.norm.moving_variance", "stem.norm.beta"),
        names,
    ):
        np.testing.assert_array_equal(weights[ours].asnumpy(), tensors[key])


def test_every_fault_is_told_and_leaves_the_earlier_file(tmp_path):
    tensors = filled(keys(convert.MINDSPORE_AI, image=False))
    del tensors["temp1.conv1.bias"]
    tensors["extra"] = np.zeros(1, np.float32)
    tensors["fc.weight"] = tensors["fc.weight"][:, :5]
    tensors["bn1.beta"][3] = np.nan
    save(tmp_path / "port.ckpt", tensors)
    (tmp_path / "ours.ckpt").write_bytes(b"an earlier one")
    with pytest.raises(UserError) as told:
        convert.main([str(tmp_path / "port.ckpt"), str(tmp_path / "ours.ckpt"), "--layout", "mindspore-ai"])
    for fault in (
        "unexpected extra",
        "missing temp1.conv1.bias",
        "fc.weight is [7, 5] instead of [7, 1024]",
        "bn1.beta is not finite",
    ):
        assert fault in str(told.value)
    assert (tmp_path / "ours.ckpt").read_bytes() == b"an earlier one"


def test_a_pytorch_file_is_read(tmp_path):
    reads_pytorch_files(convert.read_torch, tmp_path)
