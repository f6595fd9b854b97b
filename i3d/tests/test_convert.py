"""Published layouts, filled with seeded weights, become checkpoints; every mistake is told in one line."""

import convert
import mindspore as ms
import numpy as np
import pytest
from make_golden import CLASSES

from shared_utils import checkpoint
from shared_utils.config import UserError
from shared_utils.tests.programs import reads_pytorch_files
from src.inflate import inflate
from src.network import I3D

# Some variables of deepmind's published checkpoint.
PUBLISHED_VARIABLES = {
    "Conv3d_1a_7x7/conv_3d/w": (7, 7, 7, 3, 64),
    "Conv3d_1a_7x7/batch_norm/moving_mean": (1, 1, 1, 1, 64),
    "Conv3d_2b_1x1/batch_norm/moving_variance": (1, 1, 1, 1, 64),
    "Mixed_3b/Branch_1/Conv3d_0a_1x1/conv_3d/w": (1, 1, 1, 192, 96),
    "Mixed_4b/Branch_2/Conv3d_0b_3x3/conv_3d/w": (3, 3, 3, 16, 48),
    "Mixed_4c/Branch_3/Conv3d_0b_1x1/batch_norm/beta": (1, 1, 1, 1, 64),
    "Mixed_5b/Branch_2/Conv3d_0a_3x3/conv_3d/w": (3, 3, 3, 32, 128),
    "Mixed_5c/Branch_0/Conv3d_0a_1x1/conv_3d/w": (1, 1, 1, 832, 384),
    "Logits/Conv3d_0c_1x1/conv_3d/w": (1, 1, 1, 1024, CLASSES),
    "Logits/Conv3d_0c_1x1/conv_3d/b": (CLASSES,),
}
# And of torchvision's googlenet.
PUBLISHED_TENSORS = {
    "conv1.conv.weight": (64, 3, 7, 7),
    "conv3.bn.running_var": (192,),
    "inception3a.branch1.conv.weight": (64, 192, 1, 1),
    "inception4a.branch3.1.conv.weight": (48, 16, 3, 3),
    "inception4e.branch2.0.bn.weight": (160,),
    "inception5b.branch4.1.conv.weight": (128, 832, 1, 1),
}


def renamed(tensors, keys, change):
    """{their name: changed array} of pytorch-i3d's tensors under another layout's names."""
    ours = convert.pytorch_i3d_keys()
    return {
        theirs: change(tensors[name])
        for target, names in keys.items()
        for theirs, name in zip(names, ours[target])
    }


@pytest.fixture(scope="module")
def variables(golden_tensors):
    """deepmind's variables, with two that hold no weights."""

    def change(array):
        if array.ndim == 5:
            return array.transpose(2, 3, 4, 1, 0)
        return array.reshape(1, 1, 1, 1, -1) if len(array) > CLASSES else array

    found = renamed(golden_tensors, convert.kinetics_i3d_keys(), change)
    assert len(found) == 57 * 4 + 2
    for name, shape in PUBLISHED_VARIABLES.items():
        assert found[f"RGB/inception_i3d/{name}"].shape == shape
    momentum = {"RGB/inception_i3d/Conv3d_1a_7x7/conv_3d/w/Momentum": np.zeros((7, 7, 7, 3, 64))}
    return {**found, **momentum, "global_step": np.array(7)}


@pytest.fixture(scope="module")
def image_tensors(golden_tensors):
    """googlenet's tensors: the middle step of ours."""
    found = renamed(
        golden_tensors,
        convert.googlenet_keys(),
        lambda array: array[:, :, array.shape[2] // 2] if array.ndim == 5 else array,
    )
    assert len(found) == 57 * 5
    for name, shape in PUBLISHED_TENSORS.items():
        assert found[name].shape == shape
    others = {"fc.weight": np.zeros((1000, 1024)), "aux1.conv.conv.weight": np.zeros((128, 512, 1, 1))}
    return {**found, **others}


@pytest.fixture
def run(tmp_path, monkeypatch, pynative):
    """Function (layout, {name: array}) -> {our name: array} of the checkpoint; PyTorch's files are .npz."""

    def call(layout, tensors):
        source, dest = tmp_path / "source.npz", tmp_path / "out" / "i3d.ckpt"
        np.savez(source, **tensors)
        read, *rest = convert.LAYOUTS[layout]
        if read is convert.read_torch:
            monkeypatch.setitem(convert.LAYOUTS, layout, (lambda path: dict(np.load(path)), *rest))
        try:
            convert.main([str(source), str(dest), "--layout", layout])
        finally:
            assert [path for path in tmp_path.rglob("*") if path.is_file() and path != dest] == [source]
        tensors, facts = checkpoint.load(dest)
        assert facts["weights"] == list(tensors)
        return {name: tensor.asnumpy() for name, tensor in tensors.items()}

    return call


def expected(golden_tensors):
    return convert.convert(golden_tensors, convert.pytorch_i3d_keys())


def test_pytorch_i3d(run, golden_tensors, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/i3d.labels.json").write_text('{"of what was there": 0}')
    written = run("pytorch-i3d", golden_tensors)
    assert not (tmp_path / "out/i3d.labels.json").exists()
    told = capsys.readouterr().out
    assert f"{len(written)} tensors" in told
    assert f"{CLASSES} classes" in told
    assert "largest logits" in told
    assert "as initialised" not in told
    entry = written["mixed4c.entry.conv.weight"]  # three convolutions in the order of the branches
    parts = [golden_tensors[f"Mixed_4c.{branch}.conv3d.weight"] for branch in ("b0", "b1a", "b2a")]
    np.testing.assert_array_equal(entry, np.concatenate(parts))
    np.testing.assert_array_equal(written["classifier.bias"], golden_tensors["logits.conv3d.bias"])
    # fine-tuning replaces the classifier
    checkpoint.load_weights(I3D(3), tmp_path / "out" / "i3d.ckpt", replace=("classifier.",))


def test_kinetics_i3d(run, golden_tensors, variables, capsys):
    written = run("kinetics-i3d", variables)
    for name, array in expected(golden_tensors).items():
        np.testing.assert_array_equal(written[name], 1 if name.endswith("gamma") else array, err_msg=name)
    told = capsys.readouterr().out
    assert "as initialised: conv1a.norm.bn2d.gamma, " in told
    assert "passed over: RGB/inception_i3d/Conv3d_1a_7x7/conv_3d/w/Momentum, global_step" in told


def test_googlenet_is_inflated(run, golden_tensors, image_tensors, capsys):
    written = run("torchvision-googlenet", image_tensors)
    for name, array in expected(golden_tensors).items():
        if name.startswith("classifier."):
            assert written[name].shape[0] == 400
        elif array.ndim < 5 or array.shape[2] == 1:
            np.testing.assert_array_equal(written[name], array, err_msg=name)
        else:
            middle = array[:, :, array.shape[2] // 2]
            np.testing.assert_allclose(written[name].sum(2), middle, rtol=1e-5, err_msg=name)
            np.testing.assert_array_equal(written[name][:, :, 0], written[name][:, :, -1])
    told = capsys.readouterr().out
    assert "as initialised: classifier.weight, classifier.bias" in told
    assert "passed over: fc.weight, aux1.conv.conv.weight" in told


def test_inflated_filters_answer_a_still_video_as_the_image():
    """Section 2.2: away from the ends of the clip."""
    rng = np.random.default_rng(0)
    weight, image = rng.normal(size=(5, 2, 3, 3)), rng.normal(size=(2, 3, 3))
    video = np.repeat(image[:, None], 4, 1)
    assert inflate(weight, 4).shape == (5, 2, 4, 3, 3)
    answer = np.einsum("octhw,cthw->o", inflate(weight, 4), video)
    np.testing.assert_allclose(answer, np.einsum("ochw,chw->o", weight, image))


@pytest.mark.parametrize(
    "spoil, told",
    [
        (lambda tensors: tensors.pop("Mixed_3b.b1b.bn.bias"), "missing Mixed_3b.b1b.bn.bias"),
        (lambda tensors: tensors.pop("logits.conv3d.bias"), "missing logits.conv3d.bias"),
        (lambda tensors: tensors.update(extra=np.zeros(2)), "unexpected extra"),
        (
            lambda tensors: tensors.update({"Conv3d_1a_7x7.conv3d.weight": np.zeros((64, 2, 7, 7, 7))}),
            r"conv1a.conv.weight is \[64, 2, 7, 7, 7\] instead of \[64, 3, 7, 7, 7\]",
        ),
        (
            lambda tensors: tensors.update({"Mixed_3b.b0.conv3d.weight": np.zeros((64, 7, 1, 1, 1))}),
            r"Mixed_3b.b0.conv3d.weight.* are \[64, 7, 1, 1, 1\], \[96, 192, 1, 1, 1\]",
        ),
        (
            lambda tensors: tensors.update({"logits.conv3d.bias": np.full(CLASSES, np.nan)}),
            "classifier.bias is not finite",
        ),
        (
            lambda tensors: tensors.update({"Mixed_3b.b1b.bn.bias": np.full(128, np.inf)}),
            "mixed3b.branch1.norm.bn2d.beta is not finite",
        ),
        (
            lambda tensors: tensors.update({"logits.conv3d.bias": np.zeros(CLASSES + 1)}),
            r"classifier.weight is .* instead of",
        ),
        (lambda tensors: tensors.update({"logits.conv3d.bias": np.float64(0)}), "classifier.weight is"),
    ],
)
def test_wrong_tensors_are_told(run, golden_tensors, tmp_path, spoil, told):
    tensors = dict(golden_tensors)
    spoil(tensors)
    with pytest.raises(UserError, match=told) as error:
        run("pytorch-i3d", tensors)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "i3d.ckpt").exists()


def test_a_checkpoint_that_reads_back_otherwise_is_not_written(run, golden_tensors, tmp_path, monkeypatch):
    load = checkpoint.load_weights

    def worn(network, path):
        load(network, path)
        network.classifier.bias.set_data(ms.ops.zeros_like(network.classifier.bias))

    monkeypatch.setattr(checkpoint, "load_weights", worn)
    with pytest.raises(UserError, match="read back, differs by"):
        run("pytorch-i3d", golden_tensors)


def test_unreadable_sources_are_told(tmp_path):
    dest = str(tmp_path / "i3d.ckpt")
    with pytest.raises(UserError, match="no file at"):
        convert.main([str(tmp_path / "none"), dest, "--layout", "kinetics-i3d"])
    broken = tmp_path / "broken.npz"
    for content in (b"", b"no archive", b"PK\x03\x04 cut"):
        broken.write_bytes(content)
        with pytest.raises(UserError, match=r"is no \.npz of variables"):
            convert.main([str(broken), dest, "--layout", "kinetics-i3d"])


def test_a_pytorch_file_is_read(tmp_path):
    reads_pytorch_files(convert.read_torch, tmp_path)
