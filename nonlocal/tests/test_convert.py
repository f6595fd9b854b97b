"""Published layouts to our checkpoint: every tensor accounted for, the file proved, nothing half-finished."""

import convert
import mindspore as ms
import numpy as np
import pytest

from shared_utils import checkpoint
from shared_utils.config import UserError
from shared_utils.tests.programs import reads_pytorch_files
from src.network import NonLocalI3D

BOTTLENECKS, BLOCKS, CLASSES = (3, 4, 6, 3), ((), (1, 3), (1, 3, 5), ()), 7
TORCH = ("weight", "bias", "running_mean", "running_var")
MINDSPORE = ("gamma", "beta", "moving_mean", "moving_variance")


pytestmark = pytest.mark.usefixtures("pynative")


def bottlenecks(names, conv1, conv2, conv3, shortcut):
    """{key of a ResNet-50's bottlenecks: shape} with (convolution, norm) names of the parts."""
    keys, channels = {}, 64
    inflated = ("111", "1010", "101010", "010")
    for stage, count in enumerate(BOTTLENECKS):
        width = 64 * 2**stage
        for number in range(count):
            prefix = f"layer{stage + 1}.{number}."
            length = 3 if inflated[stage][number] == "1" else 1
            parts = [
                (conv1, (width, channels, length, 1, 1)),
                (conv2, (width, width, 1, 3, 3)),
                (conv3, (4 * width, width, 1, 1, 1)),
                (shortcut, (4 * width, channels, 1, 1, 1)),
            ]
            for (conv, norm), shape in parts[: 4 if number == 0 else 3]:
                keys[f"{prefix}{conv}.weight"] = shape
                keys.update({f"{prefix}{norm}.{name}": shape[:1] for name in names})
            channels = 4 * width
    return keys


def non_local(g, theta, phi, conv, norm, names):
    keys = {}
    for stage, blocks in enumerate(BLOCKS):
        channels = 256 * 2**stage
        for number in blocks:
            prefix = f"backbone.layer{stage + 1}.{number}.non_local_block."
            for part in (g, theta, phi):
                keys[f"{prefix}{part}.weight"] = (channels // 2, channels, 1, 1, 1)
                keys[f"{prefix}{part}.bias"] = (channels // 2,)
            keys[f"{prefix}{conv}.weight"] = (channels, channels // 2, 1, 1, 1)
            keys.update({f"{prefix}{norm}.{name}": (channels,) for name in names})
    return keys


def mmaction2(plain=False):
    parts = [(f"{part}.conv", f"{part}.bn") for part in ("conv1", "conv2", "conv3", "downsample")]
    keys = {f"backbone.{name}": shape for name, shape in bottlenecks(TORCH, *parts).items()}
    keys["backbone.conv1.conv.weight"] = (64, 3, 5, 7, 7)
    keys.update({f"backbone.conv1.bn.{name}": (64,) for name in TORCH})
    keys.update({"cls_head.fc_cls.weight": (CLASSES, 2048), "cls_head.fc_cls.bias": (CLASSES,)})
    names = ("g.0.conv", "theta.conv", "phi.0.conv", "conv_out.conv", "conv_out.bn")
    return keys if plain else {**keys, **non_local(*names, TORCH)}


def zjut():
    parts = [
        (f"{part}.features.0", f"{part}.features.1.bn2d")
        for part in ("conv12.conv1", "conv12.conv2", "conv3", "down_sample")
    ]
    keys = {f"backbone.{name}": shape for name, shape in bottlenecks(MINDSPORE, *parts).items()}
    keys["backbone.conv1.features.0.weight"] = (64, 3, 5, 7, 7)
    keys.update({f"backbone.conv1.features.1.bn2d.{name}": (64,) for name in MINDSPORE})
    keys.update({"head.dense.weight": (CLASSES, 2048), "head.dense.bias": (CLASSES,)})
    return {**keys, **non_local("g.0", "theta", "phi.0", "w.0", "w.1.bn2d", MINDSPORE)}


def resnet50():
    parts = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("downsample.0", "downsample.1"))
    keys = bottlenecks(TORCH, *parts)
    keys = {name: shape[:2] + shape[3:] for name, shape in keys.items()}  # images have no time
    keys["conv1.weight"] = (64, 3, 7, 7)
    keys.update({f"bn1.{name}": (64,) for name in TORCH})
    return {**keys, "fc.weight": (1000, 2048), "fc.bias": (1000,)}


def filled(keys):
    rng = np.random.default_rng(1)
    return {
        name: rng.uniform(0.5, 1.5, shape).astype(np.float32)
        if len(shape) == 1
        else (rng.standard_normal(shape, np.float32) * (2 / np.prod(shape[1:])) ** 0.5)
        for name, shape in keys.items()
    }


def converted(monkeypatch, capsys, tmp_path, layout, tensors, *words):
    """(tensors of the written checkpoint, what was printed); the source is not read, for want of torch."""
    monkeypatch.setitem(convert.LAYOUTS, layout, (lambda path: tensors, *convert.LAYOUTS[layout][1:]))
    source, dest = tmp_path / "source", tmp_path / "dest.ckpt"
    source.touch()
    (tmp_path / "dest.labels.json").write_text('{"of what was there": 0}')
    convert.main([str(source), str(dest), "--layout", layout, *words])
    written = {name: tensor.asnumpy() for name, tensor in checkpoint.load(dest)[0].items()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dest.ckpt", "source"]
    return written, capsys.readouterr().out


def test_mmaction2(monkeypatch, capsys, tmp_path):
    tensors = filled(mmaction2())
    written, told = converted(monkeypatch, capsys, tmp_path, "mmaction2", tensors)
    assert sorted(array.tobytes() for array in written.values()) == sorted(
        array.tobytes() for array in tensors.values()
    )
    pairs = {
        "stem.unit.norm.bn2d.moving_variance": "backbone.conv1.bn.running_var",
        "res2.0.shortcut.conv.weight": "backbone.layer1.0.downsample.conv.weight",
        "res4.5.non_local.theta.conv.bias": "backbone.layer3.5.non_local_block.theta.conv.bias",
        "res3.1.non_local.phi.conv.weight": "backbone.layer2.1.non_local_block.phi.0.conv.weight",
        "res3.3.non_local.out.norm.bn2d.gamma": "backbone.layer2.3.non_local_block.conv_out.bn.weight",
        "classifier.weight": "cls_head.fc_cls.weight",
    }
    for ours, theirs in pairs.items():
        np.testing.assert_array_equal(written[ours], tensors[theirs])
    assert "322 tensors, 34,653,895 numbers" in told
    assert "num_classes=7" in told
    assert "reloaded, equal logits of a seeded clip; highest by class: " in told


def test_mmaction2_without_non_local_blocks(monkeypatch, capsys, tmp_path):
    written, told = converted(monkeypatch, capsys, tmp_path, "mmaction2", filled(mmaction2(plain=True)))
    assert not [name for name in written if "non_local" in name]
    assert "267 tensors" in told
    assert "blocks=[[], [], [], []]" in told


def test_zjut_is_read_from_its_checkpoint(capsys, tmp_path):
    tensors = filled(zjut())
    rows = [{"name": n, "data": ms.Tensor(a)} for n, a in tensors.items()]
    names = ("accum.head.dense.bias", "stat.head.dense.bias", "momentum", "learning_rate", "global_step")
    rows += [{"name": name, "data": ms.Tensor([0.0])} for name in names]  # of nn.SGD, as the port trains
    ms.save_checkpoint(rows, str(tmp_path / "a.ckpt"), append_dict={"epoch_num": 3, "note": "a text"})
    convert.main([str(tmp_path / "a.ckpt"), str(tmp_path / "b.ckpt"), "--layout", "zjut"])
    written = checkpoint.load(tmp_path / "b.ckpt")[0]
    pairs = {
        "stem.unit.norm.bn2d.beta": "backbone.conv1.features.1.bn2d.beta",
        "res3.2.conv2.conv.weight": "backbone.layer2.2.conv12.conv2.features.0.weight",
        "res5.0.shortcut.norm.bn2d.moving_mean": "backbone.layer4.0.down_sample.features.1.bn2d.moving_mean",
        "res4.3.non_local.out.conv.weight": "backbone.layer3.3.non_local_block.w.0.weight",
        "res4.3.non_local.g.conv.weight": "backbone.layer3.3.non_local_block.g.0.weight",
        "res4.3.non_local.theta.conv.weight": "backbone.layer3.3.non_local_block.theta.weight",
        "classifier.bias": "head.dense.bias",
    }
    for ours, theirs in pairs.items():
        np.testing.assert_array_equal(written[ours].asnumpy(), tensors[theirs])
    assert len(written) == len(tensors) == 322
    assert "conv1_stride_t=1, pool1_stride_t=1" in capsys.readouterr().out


def test_resnet50_is_inflated(monkeypatch, capsys, tmp_path):
    tensors = filled(resnet50())
    written, told = converted(
        monkeypatch, capsys, tmp_path, "torchvision-resnet50", tensors, "--mode", "concatenation"
    )
    np.testing.assert_allclose(written["stem.unit.conv.weight"].sum(2), tensors["conv1.weight"], atol=1e-6)
    for name in ("res3.2.conv1", "res3.2.conv2", "res5.1.conv1"):
        weight = tensors[f"layer{int(name[3]) - 1}{name[4:]}.weight"]
        inflated = written[f"{name}.conv.weight"]
        np.testing.assert_allclose(inflated.sum(2), weight, atol=1e-6)
        assert (inflated == inflated[:, :, :1]).all()
    np.testing.assert_array_equal(
        written["res5.2.conv3.norm.bn2d.moving_mean"], tensors["layer4.2.bn3.running_mean"]
    )
    initial = told.split("as initialised: ")[1].splitlines()[0].split(", ")
    assert len(initial) == 5 * 12 + 2
    assert {"res3.1.non_local.w_f", "classifier.weight"} <= set(initial)
    assert set(initial) < set(written)


@pytest.mark.parametrize(
    "change, told",
    [
        (
            {"backbone.layer1.0.conv1.conv.weight": None},
            "1 tensors .* missing backbone.layer1.0.conv1.conv.weight",
        ),
        ({"backbone.more": np.zeros(3)}, "1 tensors differ: unexpected backbone.more"),
        (
            {"cls_head.fc_cls.weight": np.zeros((8, 2048))},
            r"cls_head.fc_cls.weight is \[8, 2048\] instead of \[7, 2048\]",
        ),
        ({"cls_head.fc_cls.bias": np.full(7, np.nan, np.float32)}, "cls_head.fc_cls.bias is not finite"),
        ({"cls_head.fc_cls.bias": np.float32(0)}, "cls_head.fc_cls.bias is "),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_left(monkeypatch, capsys, tmp_path, change, told):
    tensors = {name: array for name, array in {**filled(mmaction2()), **change}.items() if array is not None}
    (tmp_path / "dest.ckpt").write_bytes(b"an earlier one")
    with pytest.raises(UserError, match=told):
        converted(monkeypatch, capsys, tmp_path, "mmaction2", tensors)
    assert (tmp_path / "dest.ckpt").read_bytes() == b"an earlier one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dest.ckpt", "dest.labels.json", "source"]


def test_a_destination_of_another_name_is_refused(tmp_path):
    (tmp_path / "a.pth").touch()
    with pytest.raises(UserError, match=r"DEST must end in \.ckpt: .*b\.pth"):
        convert.main([str(tmp_path / "a.pth"), str(tmp_path / "b.pth"), "--layout", "mmaction2"])


def test_a_checkpoint_with_other_logits_is_not_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoint, "load_weights", lambda network, path: None)
    network = NonLocalI3D(CLASSES)
    with pytest.raises(UserError, match="does not give the logits"):
        convert.save(network, lambda: NonLocalI3D(CLASSES), tmp_path / "dest.ckpt")
    assert not list(tmp_path.iterdir())


def test_a_pytorch_file_is_read(tmp_path):
    reads_pytorch_files(convert.read_torch, tmp_path)
