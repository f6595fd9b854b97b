"""device: a kept training step is used again by the same run, and by no other."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import pytest
from mindspore.common.api import cells_compile_cache
from ml_collections import ConfigDict

from shared_utils import checkpoint, device
from shared_utils.tests import toy_run

# Rates are no part of the configuration here: the factor 2 stands for what a graph has as a constant.
PROGRAM = """
import sys
import mindspore as ms
from ml_collections import ConfigDict
from shared_utils import device
from shared_utils.tests import toy_run

ms.set_context(mode=ms.GRAPH_MODE)
folder, factor, resume = sys.argv[1:]
toy_run.Loss.construct = lambda self, rows: (self.network(rows) - self.factor).square().mean()
toy_run.Loss.factor = float(factor)
config = ConfigDict({"train": {"resume": resume}, "factor": float(factor)})
seen = device.KeptGraph(config, f"{folder}/graphs", __name__)
toy_run.train(toy_run.section(folder, resume=resume), 0, seen)
"""


def run(folder, factor, resume=""):
    """Train in a process of its own: what it told."""
    program = folder / "program.py"
    program.write_text(PROGRAM)
    words = [sys.executable, program, folder, str(factor), resume]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def weights(path):
    return {name: tensor.asnumpy().tobytes() for name, tensor in checkpoint.load(path)[0].items()}


def test_a_resumed_run_takes_the_graph_that_it_left_and_another_run_does_not(tmp_path):
    run(tmp_path, 2.0)
    (kept,) = tmp_path.glob("graphs/*/rank_0/graph_cache/*.mindir")
    written, whole = kept.stat().st_mtime_ns, weights(tmp_path / "net-3_4.ckpt")
    for state in ("2_4", "3_4"):
        (tmp_path / f"net-{state}.ckpt").unlink()
    assert "4 of 12 steps done" in run(tmp_path, 2.0, "auto")
    assert weights(tmp_path / "net-3_4.ckpt") == whole
    assert [*tmp_path.glob("graphs/*/rank_0/graph_cache/*.mindir")] == [kept]
    assert kept.stat().st_mtime_ns == written  # compiled again, it would have been written again
    kept.chmod(0o600)
    kept.write_bytes(kept.read_bytes()[:1000])  # power lost
    (tmp_path / "net-3_4.ckpt").unlink()
    run(tmp_path, 2.0, "auto")
    assert weights(tmp_path / "net-3_4.ckpt") == whole
    told = run(tmp_path, 5.0)
    assert len([*tmp_path.glob("graphs/*")]) == 2
    assert float(told.split("loss is ")[1].split()[0]) > 15  # not the graph with the factor 2


@pytest.fixture
def given():
    network = toy_run.build()[1]
    return SimpleNamespace(
        train_network=network, train_dataset_element=(ms.ops.zeros((6, 5)),), cur_step_num=1
    )


def key(given, program, resume="", lr=0.1):
    config = ConfigDict({"train": {"resume": resume, "lr": lr}})
    return device.KeptGraph(config, "graphs", "__main__").key(given, program)


def test_the_key_tells_all_that_a_graph_depends_on(given, monkeypatch, tmp_path):
    program, network = tmp_path / "train.py", tmp_path / "src" / "network.py"
    network.parent.mkdir()
    program.write_text("a = 1\n")
    network.write_text("a = 1\n")
    keys = [key(given, program), key(given, program, lr=0.2)]
    assert key(given, program, resume="auto") == keys[0]
    given.train_network.trainable_params()[0].requires_grad = False
    keys.append(key(given, program))
    given.train_dataset_element = (ms.ops.zeros((7, 5)),)
    keys.append(key(given, program))
    monkeypatch.setenv("MS_DEV_SOMETHING", "1")
    keys.append(key(given, program))
    monkeypatch.setattr(ms, "__version__", "2.7.3")
    keys.append(key(given, program))
    for source in (program, network):
        source.write_text("a = 2\n")
        keys.append(key(given, program))
    assert len(set(keys)) == len(keys) == 8


def take_a_step(given, folder, compile_step, name="__main__"):
    """A first step, of a network that is compiled by `compile_step`; the folder of the graph."""
    callback = device.KeptGraph(ConfigDict({"train": {"resume": ""}}), folder, name)
    given.train_network.compile = lambda rows: compile_step()
    callback.on_train_step_begin(SimpleNamespace(original_args=lambda: given))
    assert "MS_COMPILER_CACHE_ENABLE" not in os.environ
    return folder / callback.key(given, Path(sys.modules["__main__"].__file__))


@pytest.fixture
def in_graph_mode(monkeypatch):
    """Graph mode, in a process that has compiled nothing."""
    monkeypatch.setattr(device, "cells_compile_cache", {})
    ms.set_context(mode=ms.GRAPH_MODE)
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


def test_a_first_start_compiles_in_a_child_that_says_nothing(given, in_graph_mode, tmp_path, capfd):
    log = tmp_path / "log"

    def compile_step():
        os.system("echo compiled")
        with open(log, "a") as file:
            print(os.getpid(), os.environ["MS_COMPILER_CACHE_ENABLE"], file=file)

    place = take_a_step(given, tmp_path / "graphs", compile_step)
    (child, kept), own = map(str.split, log.read_text().splitlines())
    assert child != own[0] == str(os.getpid()) and kept == own[1] == "1"
    assert capfd.readouterr().out == "compiled\n"
    place.mkdir(parents=True)
    take_a_step(given, tmp_path / "graphs", compile_step)
    assert log.read_text().splitlines()[2:] == [" ".join(own)]


@pytest.mark.parametrize("end", [lambda: 1 / 0, sys.exit, lambda: os.kill(os.getpid(), 9)])
def test_a_child_that_fails_costs_nothing(given, in_graph_mode, tmp_path, capfd, end):
    compiled, parent = [], os.getpid()
    take_a_step(given, tmp_path, lambda: compiled.append(1) if os.getpid() == parent else end())
    assert compiled == [1] and capfd.readouterr() == ("", "")


def test_after_another_graph_no_child_compiles(given, in_graph_mode, tmp_path, monkeypatch):
    monkeypatch.setattr(device, "cells_compile_cache", cells_compile_cache)
    network = ms.nn.ReLU()
    network(ms.ops.zeros((2, 2)))
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("a child would wait for a thread that it has not"))
    compiled = []
    take_a_step(given, tmp_path, lambda: compiled.append(1))
    assert compiled == [1]


@pytest.mark.parametrize("other", ["ranks", "mode", "device", "step", "name"])
def test_several_ranks_pynative_a_gpu_later_steps_and_other_programs_keep_nothing(
    given, monkeypatch, tmp_path, other
):
    told = {"mode": 1 if other == "mode" else 0, "device_target": "GPU" if other == "device" else "CPU"}
    monkeypatch.setattr(device, "ranks", lambda: (0, 2 if other == "ranks" else 1))
    monkeypatch.setattr(ms, "get_context", told.get)
    given.cur_step_num = 2 if other == "step" else 1
    name = "train" if other == "name" else "__main__"
    take_a_step(given, tmp_path, lambda: pytest.fail("it was compiled"), name)
