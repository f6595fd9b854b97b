"""What the tests share: a small data set of real videos, its configuration."""

from pathlib import Path

import pytest
import yaml

from ci.synthetic_videos import write_ucf101  # pytest's pythonpath is the repository's root
from shared_utils import config as configuration
from shared_utils.tests.programs import execute, graph_mode, pynative  # noqa: F401

MODEL = Path(__file__).resolve().parents[1]
TRAIN, VAL, TEST = (
    ["SlideUp", "SlideRight", "ZoomIn"],
    ["SlideDown", "RollLeft"],
    ["ZoomOut", "SlideLeft", "BlinkSlow"],
)


@pytest.fixture(scope="session")
def ucf101(tmp_path_factory):
    """UCF101's layout: 8 classes of 3 groups of 2 videos of about 12 frames of 24x32, with class_splits/."""
    folder = tmp_path_factory.mktemp("data") / "videos"
    write_ucf101(folder, TRAIN + VAL + TEST, videos=6, frames=12, height=24, width=32)
    return folder


def settings(data, folder):
    """The YAML of a tiny run on `data` with its files below `folder`: 2-way 1-shot, 8 frames of 16x16."""
    operations = [{"type": "VideoResize", "size": [16, 16]}, {"type": "VideoToTensor"}]

    def section(**dataset):
        common = {
            "path": str(data),
            "class_split": f"{data}/class_splits",
            "seq": 8,
            "num_parallel_workers": 2,
        }
        return {"dataset": {**common, **dataset}, "map": {"operations": operations}}

    best = f"{folder}/output/arn-best.ckpt"
    return {
        "base": str(MODEL / "default_config.yaml"),
        "model": {"way": 2, "channels": 16},
        "self_supervision": {"kind": "none"},
        "train": {
            "ckpt_path": f"{folder}/output",
            "epochs": 2,
            "eval_episodes": 5,
            "save_checkpoint_epochs": 1,
            "log_steps": 1,
        },
        "eval": {
            "pretrained_model": best,
            "shots": [1, 2],
            "query": 2,
            "episodes": 20,
            "output_dir": f"{folder}/eval",
        },
        "infer": {"pretrained_model": best, "output_dir": f"{folder}/infer"},
        "export": {"pretrained_model": best, "input_shape": [3, 8, 16, 16], "file_name": f"{folder}/arn"},
        "data_loader": {"train": section(episodes=2), "eval": section(batch_size=5)},
    }


@pytest.fixture
def tiny(ucf101, tmp_path):
    """Function of flags ("model.way=3", ...) to the locked configuration of a tiny run."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(settings(ucf101, tmp_path)))
    return lambda *flags: configuration.load(
        ["-c", str(path), *(f"--{flag}" for flag in flags)], MODEL / "default_config.yaml"
    )
