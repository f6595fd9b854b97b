"""The programs on short clips: training, validation, evaluation; the configuration's checks."""

import re
import sys
from pathlib import Path

import eval as evaluate
import pytest
import train
import yaml

from ci.synthetic_videos import write_kinetics  # pytest's pythonpath is the repository's root
from shared_utils import config as configuration

MODEL = Path(__file__).resolve().parents[1]
DEFAULT = MODEL / "default_config.yaml"
MOTIONS = ["SlideUp", "ZoomIn"]


@pytest.fixture(scope="module")
def kinetics(tmp_path_factory):
    """Kinetics-400's layout: 2 classes of 10 videos of about 8 frames."""
    folder = tmp_path_factory.mktemp("data") / "kinetics"
    write_kinetics(folder, MOTIONS, videos=10, frames=8, height=24, width=24)
    return folder


@pytest.fixture
def tiny(kinetics, tmp_path):
    """Path of the YAML of a tiny run with its files below tmp_path."""
    operations = [{"type": "VideoResize", "size": [24, 24]}, {"type": "VideoToTensor"}]
    dataset = {"path": str(kinetics), "seq": 4, "num_parallel_workers": 2}
    tree = {
        "base": str(DEFAULT),
        "model": {"num_classes": 2},
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
def execute(monkeypatch, capsys, tiny):
    """Function (program, flags) -> (status, stdout, stderr) of that program with the tiny YAML."""

    def call(program, *flags):
        words = [program.__file__, "-c", str(tiny), *(f"--{flag}" for flag in flags)]
        monkeypatch.setattr(sys, "argv", words)
        status = 0
        try:
            configuration.run(program.main, program.__file__)
        except SystemExit as end:
            status = end.code
        told = capsys.readouterr()
        return status, told.out, told.err

    return call


def test_a_run_trains_validates_and_is_evaluated(execute, tmp_path):
    status, told, error = execute(train, "train.epochs=1")
    assert status == 0, error
    assert re.search(r"^epoch: 1 step: 3, loss is \d", told, re.MULTILINE)
    best = [line.split()[4] for line in told.splitlines() if "validation top-1" in line]
    assert len(best) == 1 and "trained 3 steps" in told
    path = tmp_path / "output" / "i3d-best.ckpt"
    status, told, error = execute(evaluate, f"eval.pretrained_model={path}", "eval.num_crops=1")
    assert status == 0, error
    assert told.splitlines()[-1] == str({"Top_1_Accuracy": float(max(best)), "Top_5_Accuracy": 1.0})


def test_another_networks_type_is_an_error(execute):
    status, _, error = execute(train, "model.type=R2Plus1D18")
    assert status == 1 and "model.type is R2Plus1D18, but this is I3D" in error
