"""exporting: where the files go, and what is refused before anything is made."""

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from shared_utils import checkpoint, exporting
from shared_utils.config import UserError

CLIP = np.linspace(-1, 1, 10, dtype=np.float32).reshape(2, 5)


@pytest.mark.parametrize("name", ["with space", "gr\u00f6\u00dfe+1", "-dash", "a'b\"c", "two\nlines"])
def test_files_may_have_any_name(tmp_path, name):
    network = nn.Dense(5, 3)
    exporting.export(network, [CLIP], str(tmp_path / name / name), "MINDIR")
    path, proof = exporting.export(network, [CLIP], str(tmp_path / name / f"{name}.mindir"), "MINDIR")
    assert path == tmp_path / name / f"{name}.mindir" and "largest difference" in proof
    answer, shape = exporting.load_exported(path)
    assert shape == [2, 5]
    np.testing.assert_allclose(answer(CLIP), network(ms.Tensor(CLIP)).asnumpy(), atol=1e-6)
    checkpoint.save(path.with_suffix(".ckpt"), network.parameters_dict())
    checkpoint.load_weights(nn.Dense(5, 3), path.with_suffix(".ckpt"))
    assert sorted(file.suffix for file in path.parent.iterdir()) == [".ckpt", ".mindir"]


@pytest.mark.parametrize("name", ["", "folder/", ".", "folder/.."])
def test_a_name_that_is_none_is_refused(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="file_name must name a file"):
        exporting.export(nn.Dense(5, 3), [CLIP], name, "MINDIR")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_earlier_export(tmp_path, monkeypatch):
    (tmp_path / "net.mindir").write_bytes(b"earlier")

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"cannot write .*net\.mindir: No space left"):
        exporting.export(nn.Dense(5, 3), [CLIP], str(tmp_path / "net"), "MINDIR")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"earlier"]


@pytest.mark.parametrize(("kind", "device"), [("AIR", "GPU"), ("onnx", "CPU"), ("TORCH", "Ascend")])
def test_formats_that_cannot_be_are_refused(tmp_path, monkeypatch, kind, device):
    monkeypatch.setattr(ms, "get_context", lambda name: device)
    with pytest.raises(UserError, match=f"file_format is MINDIR, ONNX or, on an Ascend, AIR, not {kind}"):
        exporting.export(nn.Dense(5, 3), [CLIP], str(tmp_path / "net"), kind)
    assert not list(tmp_path.iterdir())


def test_an_air_file_of_an_ascend_is_written_and_not_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(ms, "get_context", lambda name: "Ascend")
    monkeypatch.setattr(ms, "export", lambda *inputs, file_name, file_format: Path(file_name).write_text("a"))
    path, proof = exporting.export(nn.Dense(5, 3), [CLIP], str(tmp_path / "net"), "AIR")
    assert path.read_text() == "a" and "not compared" in proof
