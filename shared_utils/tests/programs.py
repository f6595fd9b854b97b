"""What the tests of the models' programs share: the execution mode, short videos, a tiny YAML, a run."""

import re
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
import yaml

from ci.synthetic_videos import write_kinetics  # pytest's pythonpath is the repository's root
from shared_utils import checkpoint
from shared_utils import config as configuration
from shared_utils.config import UserError

MOTIONS = ["SlideUp", "ZoomIn"]


@pytest.fixture(scope="session", autouse=True)
def graph_mode():
    """What the programs run in, and several times as fast; no device can be named after the first kernel."""
    ms.set_device("CPU", 0)
    ms.set_context(mode=ms.GRAPH_MODE)


@pytest.fixture
def pynative():
    """Cheaper where a network runs once: compiling it takes as long as many runs."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    yield
    ms.set_context(mode=ms.GRAPH_MODE)


@pytest.fixture(scope="session")
def kinetics(tmp_path_factory):
    """Kinetics-400's layout: 2 classes of 10 videos of about 8 frames."""
    folder = tmp_path_factory.mktemp("data") / "kinetics"
    write_kinetics(folder, MOTIONS, videos=10, frames=8, height=24, width=24)
    return folder


@pytest.fixture
def tiny(kinetics, tmp_path, small):
    """Path of the YAML of a tiny run of the model in the working directory, with its files below tmp_path.

    `small`: the model's fixture (edge of the frames, the YAML's section model).
    """
    edge, model = small
    operations = [{"type": "VideoResize", "size": [edge, edge]}, {"type": "VideoToTensor"}]
    dataset = {"path": str(kinetics), "seq": 4, "num_parallel_workers": 2}
    tree = {
        "base": str(Path("default_config.yaml").absolute()),
        "model": {"num_classes": 2, **model},
        "learning_rate": {"warmup_epochs": 0, "max_epoch": 0},
        "optimizer": {"loss_scale": 1.0},
        "train": {
            "ckpt_path": f"{tmp_path}/output",
            "epochs": 2,
            "save_checkpoint_epochs": 1,
            "log_steps": 1,
        },
        "eval": {"output_dir": f"{tmp_path}/eval"},
        "data_loader": {
            "train": {"dataset": {**dataset, "batch_size": 4}, "map": {"operations": operations}},
            "eval": {"dataset": dataset, "map": {"operations": operations}},
        },
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture
def execute(monkeypatch, capsys):
    """Function (program, words) -> (exit status, stdout, stderr) of that command line, in this process."""

    def call(program, *words):
        monkeypatch.setattr(sys, "argv", [program.__file__, *map(str, words)])
        status = 0
        try:
            configuration.run(program.main, program.__file__)
        except SystemExit as end:
            status = end.code
        told = capsys.readouterr()
        return status, told.out, told.err

    return call


def train_and_evaluate(execute, train, evaluate, tiny, *flags):
    """Train by the tiny YAML and evaluate the best checkpoint: its parameters.

    The evaluation must end with the best validation's accuracy.
    """
    status, told, error = execute(train, "-c", tiny, *flags)
    assert status == 0, error
    assert re.search(r"^epoch: 1 step: \d, loss is \d", told, re.MULTILINE) and "trained " in told
    accuracies = [line.split()[4] for line in told.splitlines() if "validation top-1" in line]
    (best,) = (tiny.parent / "output").glob("*-best.ckpt")
    words = ["-c", tiny, *flags, f"--eval.pretrained_model={best}", "--eval.num_crops=1"]
    status, told, error = execute(evaluate, *words)
    assert status == 0, error
    assert told.splitlines()[-1] == str(
        {"Top_1_Accuracy": float(max(accuracies)), "Top_5_Accuracy": 1.0}
    )
    return checkpoint.load(best)[0]


def wrong_validation_is_refused(execute, train, tiny, kinetics):
    """Before the first step: lists of one class each, not the same, whose ids would both be 0; views that
    cannot be made."""
    header, *rows = (kinetics / "kinetics-400_train.csv").read_text().splitlines()
    flags = ["--model.num_classes=1", "--data_loader.eval.dataset.split=train"]
    for part, motion in zip(("train", "eval"), sorted({row.split(",")[0] for row in rows})):
        chosen = tiny.parent / f"{part}.csv"
        chosen.write_text("\n".join([header, *(row for row in rows if row.startswith(f"{motion},"))]) + "\n")
        flags.append(f"--data_loader.{part}.dataset.list={chosen}")
    status, _, error = execute(train, "-c", tiny, *flags)
    assert status == 1
    assert "validation videos differs from the data set's: class" in error and error.count("\n") == 1
    told = {
        "eval.num_crops=2": "eval.num_crops must be 1, 3 or 10, not 2",
        "eval.batch_size=0": "num_clips and batch_size must be at least 1",
        "data_loader.eval.map.operations=[]": "map.operations make clips",
    }
    for flag, line in told.items():
        status, out, error = execute(train, "-c", tiny, f"--{flag}")
        assert status == 1 and line in error and "loss is" not in out, (flag, error)


def reads_pytorch_files(read, folder):
    """`read` takes a state dict, also below `state_dict`, as float32 arrays, and tells what is none."""
    torch = pytest.importorskip("torch", reason="of requirements-convert.txt; ci.yml installs it")
    state = {"a": torch.full((2,), 1.5, dtype=torch.bfloat16), "b": torch.nn.Parameter(torch.zeros(1))}
    for content in (state, {"state_dict": state, "epoch": 3}, {**state, "epoch": 3}):
        torch.save(content, folder / "a.pth")
        found = read(folder / "a.pth")
        assert {name: array.tolist() for name, array in found.items()} == {"a": [1.5, 1.5], "b": [0.0]}
        assert all(array.dtype == np.float32 for array in found.values())
    whole = (folder / "a.pth").read_bytes()
    others = ({"state_dict": [1]}, {"state_dict": None}, [1])
    for content in (b"no weights", b"", whole[: len(whole) // 2], *others):
        if isinstance(content, bytes):
            (folder / "a.pth").write_bytes(content)
        else:
            torch.save(content, folder / "a.pth")
        with pytest.raises(UserError, match=r"a\.pth is not a PyTorch state dict"):
            read(folder / "a.pth")
