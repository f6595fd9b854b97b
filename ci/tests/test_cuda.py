"""cuda, common.sh: a CUDA_HOME of the wheels and the reason for no GPU, on a made-up site-packages."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ci import cuda
from shared_utils import device, training

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
        "nvidia/cudnn/lib/libcudnn.so.8",
        "mindspore/lib/plugin/libmindspore_gpu.so.11.6",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    monkeypatch.setattr(device, "CUDA_PLUGIN", folder / "mindspore/lib/plugin/libmindspore_gpu.so.11.6")
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


COMMON = Path(training.__file__).with_name("common.sh")


@pytest.fixture
def source(site, tmp_path):
    """Source common.sh in a model's folder with `environment`: its CUDA_HOME and LD_LIBRARY_PATH then."""
    (tmp_path / "a model/shared_utils").mkdir(parents=True)
    shutil.copy(COMMON, tmp_path / "a model/shared_utils")
    (site / "nvidia/cudnn/__init__.py").touch()
    command = f"source '{tmp_path}/a model/shared_utils/common.sh'"
    command += '; echo "${CUDA_HOME:-}|${LD_LIBRARY_PATH:-}"'

    def run(**environment):
        env = {"PATH": os.environ["PATH"], "PYTHON": sys.executable, "PYTHONPATH": str(site), **environment}
        return subprocess.check_output(["bash", "-c", command], env=env, text=True).strip().split("|")

    return run


def test_the_scripts_make_a_cuda_home_of_the_wheels(source, site, tmp_path):
    home = tmp_path / "a model/.cuda11"
    assert source() == [str(home), f"{home}/lib"]
    assert source(LD_LIBRARY_PATH="/mine") == [str(home), f"{home}/lib:/mine"]
    links = {path.name: path.resolve().name for path in (home / "lib").iterdir()}
    assert links == {
        "libcudart.so.11.0": "libcudart.so.11.0",
        "libcudart.so.11.6.0": "libcudart.so.11.0",
        "libnvrtc.so.11.2": "libnvrtc.so.11.2",
        "libnvrtc.so": "libnvrtc.so.11.2",
        "libcudnn.so.8": "libcudnn.so.8",
    }
    printed = subprocess.check_output([home / "bin/nvcc", "--version"], text=True)
    assert "Cuda compilation tools, release 11.6," in printed
    (site / "nvidia/cuda_runtime").rename(site / "nvidia/moved")
    source()
    assert (home / "lib/libcudart.so.11.0").resolve() == site / "nvidia/moved/lib/libcudart.so.11.0"


def test_a_cuda_home_of_the_users_and_no_wheels_are_left_alone(source, site, tmp_path):
    assert source(CUDA_HOME="/usr/local/cuda") == ["/usr/local/cuda", ""]
    shutil.rmtree(site / "nvidia")
    assert source() == ["", ""]
    assert not (tmp_path / "a model/.cuda11").exists()


def test_why_no_gpu_tells_the_first_obstacle(site, tmp_path, monkeypatch):
    def load(name):
        if missing:
            raise OSError(f"{missing[0]}: cannot open shared object file: No such file or directory")
        return driver

    missing, driver = ["libcudart.so.11.0", "libcuda.so.1"], SimpleNamespace(cuInit=lambda flags: 100)
    monkeypatch.setattr(device.ctypes, "CDLL", load)
    for remedy in ("pip install -r requirements-gpu.txt, then ", "install the NVIDIA driver"):
        assert device.why_no_gpu().startswith(
            f"{missing.pop(0)}: cannot open shared object file: No such file or directory: {remedy}"
        )
    assert device.why_no_gpu().startswith("CUDA_HOME names no folder with bin/nvcc")
    (tmp_path / "home/bin").mkdir(parents=True)
    (tmp_path / "home/bin/nvcc").touch()
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "home"))
    assert device.why_no_gpu() == "the NVIDIA driver finds no GPU that it can use (cuInit: error 100)"
    driver.cuInit = lambda flags: 0
    assert device.why_no_gpu() == ""


def test_why_no_gpu_without_the_plugin(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "CUDA_PLUGIN", tmp_path / "libmindspore_gpu.so.11.6")
    told = "libmindspore_gpu.so.11.6: cannot open shared object file: No such file or directory: pip install"
    assert told in device.why_no_gpu()


def test_the_program_fails_only_for_more_than_the_driver(ldd, capsys):
    ldd("/wheel/libcudart.so.11.0", "not found")
    cuda.main()
    told = "libcuda.so.1: missing\nlibcudart.so.11.0: /wheel/libcudart.so.11.0\n"
    assert capsys.readouterr().out == told
    ldd("not found", "not found")
    with pytest.raises(SystemExit, match=r"^error: libcudart.so.11.0 not found: pip install -r"):
        cuda.main()
