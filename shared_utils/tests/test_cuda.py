"""cuda: the wheels' folders, a linked CUDA_HOME and the reason for no GPU, on a made-up site-packages."""

import os
import shlex
import subprocess
import sys

import pytest

from shared_utils import cuda
from shared_utils.config import UserError

LDD = """#!/bin/sh
echo "	libcudart.so.11.0 => {cudart} (0x00007f30a0200000)"
echo "	libm.so.6 => /lib/libm.so.6 (0x00007f30a0200000)"
echo "	libcuda.so.1 => {driver}"
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A site-packages with two nvidia wheels and a MindSpore plugin, alone on sys.path."""
    folder = tmp_path / "site packages"
    for name in (
        "nvidia/cuda_runtime/lib/libcudart.so.11.0",
        "nvidia/cuda_nvrtc/lib/libnvrtc.so.11.2",
        "nvidia/cuda_nvrtc/lib/__init__.py",
        "mindspore/lib/plugin/libmindspore_gpu.so.11.6",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    monkeypatch.setattr(sys, "path", [str(folder)])
    for name in ("LD_LIBRARY_PATH", "CUDA_HOME"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def ldd(tmp_path, monkeypatch):
    """Put an ldd before the machine's that tells of `cudart` and `driver`, each a path or "not found"."""

    def install(cudart, driver):
        program = tmp_path / "bin/ldd"
        program.parent.mkdir(exist_ok=True)
        text = LDD.format(cudart=cudart, driver=driver)
        program.write_text(text.replace("not found (0x00007f30a0200000)", "not found"))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    return install


def test_folders_come_before_what_the_user_set(site, monkeypatch):
    folders = [f"{site}/nvidia/cuda_nvrtc/lib", f"{site}/nvidia/cuda_runtime/lib"]
    assert cuda.library_folders() == folders
    assert cuda.search_path(folders) == ":".join(folders)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/mine:")
    assert cuda.search_path(folders) == ":".join([*folders, "/mine"])


def test_link_makes_a_cuda_home(site, tmp_path):
    home = tmp_path / "cuda home"
    for _ in range(2):
        assert cuda.link(home) == {"CUDA_HOME": str(home), "LD_LIBRARY_PATH": f"{home}/lib"}
    links = {path.name: path.resolve().name for path in (home / "lib").iterdir()}
    assert links == {
        "libcudart.so.11.0": "libcudart.so.11.0",
        "libcudart.so.11.6.0": "libcudart.so.11.0",
        "libnvrtc.so.11.2": "libnvrtc.so.11.2",
        "libnvrtc.so": "libnvrtc.so.11.2",
    }
    printed = subprocess.check_output([home / "bin/nvcc", "--version"], text=True)
    assert "Cuda compilation tools, release 11.6," in printed


def test_link_follows_a_moved_wheel(site, tmp_path):
    cuda.link(tmp_path / "home")
    (site / "nvidia/cuda_runtime").rename(site / "nvidia/moved")
    cuda.link(tmp_path / "home")
    assert (tmp_path / "home/lib/libcudart.so.11.0").resolve() == site / "nvidia/moved/lib/libcudart.so.11.0"


def test_link_leaves_other_folders_alone(site, tmp_path):
    (tmp_path / "toolkit/bin").mkdir(parents=True)
    (tmp_path / "toolkit/bin/nvcc").write_text("another nvcc")
    with pytest.raises(UserError, match="holds something else"):
        cuda.link(tmp_path / "toolkit")
    assert [path.name for path in (tmp_path / "toolkit").iterdir()] == ["bin"]
    assert (tmp_path / "toolkit/bin/nvcc").read_text() == "another nvcc"


def test_link_without_wheels(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(UserError, match=r"requirements-gpu\.txt"):
        cuda.link(tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_why_no_gpu_tells_the_first_obstacle(site, ldd, tmp_path, monkeypatch):
    ldd("not found", "not found")
    assert cuda.why_no_gpu().startswith("libcuda.so.1, libcudart.so.11.0 not found: pip install -r ")
    ldd("/wheel/libcudart.so.11.0", "not found")
    assert cuda.why_no_gpu() == "libcuda.so.1 not found: install the NVIDIA driver"
    ldd("/wheel/libcudart.so.11.0", "/driver/libcuda.so.1 (0x00007f30a0200000)")
    assert cuda.why_no_gpu().startswith("CUDA_HOME names no folder with bin/nvcc")
    monkeypatch.setenv("CUDA_HOME", cuda.link(tmp_path / "home")["CUDA_HOME"])
    driver = type("Driver", (), {"cuInit": staticmethod(lambda flags: 100)})
    monkeypatch.setattr(cuda.ctypes, "CDLL", lambda name: driver)
    assert cuda.why_no_gpu() == "the NVIDIA driver finds no GPU that it can use (cuInit: error 100)"
    driver.cuInit = staticmethod(lambda flags: 0)
    assert cuda.why_no_gpu() == ""


def test_why_no_gpu_without_mindspore(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert cuda.why_no_gpu().startswith("libmindspore_gpu.so.11.6 not found: pip install")


def test_check_fails_only_for_more_than_the_driver(site, ldd, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["cuda", "--check"])
    ldd("/wheel/libcudart.so.11.0", "not found")
    cuda.main()
    assert capsys.readouterr().out == "libcuda.so.1: missing\nlibcudart.so.11.0: /wheel/libcudart.so.11.0\n"
    ldd("not found", "not found")
    with pytest.raises(UserError, match=r"^libcudart\.so\.11\.0 not found"):
        cuda.main()


def test_exported_line_survives_a_space(site, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["cuda", "--link", str(tmp_path / "a b")])
    cuda.main()
    words = shlex.split(capsys.readouterr().out)
    assert words == ["export", f"CUDA_HOME={tmp_path}/a b", f"LD_LIBRARY_PATH={tmp_path}/a b/lib"]
