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
from shared_utils import published
from shared_utils.config import UserError
from src.build import build

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
        "model": {
            "num_classes": 2,
            "in_d": 4,
            "in_h": 24,
            "in_w": 24,
            "conv1_stride_t": 1,
            "pool1_stride_t": 1,
        },
        "learning_rate": {"warmup_epochs": 0, "max_epoch": 0},
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
    path = tmp_path / "output" / "nonlocal-best.ckpt"
    status, told, error = execute(evaluate, f"eval.pretrained_model={path}", "eval.num_crops=1")
    assert status == 0, error
    assert told.splitlines()[-1] == str({"Top_1_Accuracy": float(max(best)), "Top_5_Accuracy": 1.0})


PUBLISHED = """
model_name: "nonlocal"
dataset_sink_mode: False
context: {mode: 0, device_target: "GPU"}
model: {type: nonlocal3d, in_d: 32, in_h: 224, in_w: 224, num_classes: 400, keep_prob: 0.5}
learning_rate: {lr_scheduler: "cosine_annealing", lr: 0.0003, lr_epochs: [2, 4], lr_gamma: 0.1, eta_min: 0.0,
                t_max: 100, max_epoch: 5, warmup_epochs: 1}
optimizer: {type: 'SGD', momentum: 0.9, weight_decay: 0.0001}
loss: {type: SoftmaxCrossEntropyWithLogits, sparse: True, reduction: "mean"}
train: {pre_trained: False, pretrained_model: "", ckpt_path: "./output/", epochs: 5,
        save_checkpoint_epochs: 5, save_checkpoint_steps: 1875, keep_checkpoint_max: 10,
        run_distribute: False}
eval: {pretrained_model: "nonlocal.ckpt"}
infer: {pretrained_model: "nonlocal.ckpt", batch_size: 1, image_path: "", normalize: True, output_dir: ""}
export: {pretrained_model: "", batch_size: 256, image_height: 224, image_width: 224, input_channel: 3,
         file_name: "nonlocal", file_formate: "MINDIR"}
data_loader:
    train:
        dataset: {type: Kinetic400, path: "/kinetics-400", split: 'train', batch_size: 6, seq: 32,
                  seq_mode: "interval", num_parallel_workers: 8, shuffle: True, frame_interval: 6,
                  num_clips: 1}
        map:
            operations:
                - {type: VideoShortEdgeResize, size: 256, interpolation: 'linear'}
                - {type: VideoRandomCrop, size: [224, 224]}
                - {type: VideoRandomHorizontalFlip, prob: 0.5}
                - {type: VideoRescale, shift: 0.0}
                - {type: VideoReOrder, order: [3,0,1,2]}
                - {type: VideoNormalize, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.255]}
            input_columns: ["video"]
    eval:
        dataset: {type: Kinetic400, path: "/kinetics-400", split: 'val', batch_size: 1, seq: 32,
                  seq_mode: "interval", num_parallel_workers: 8, shuffle: False, frame_interval: 6,
                  num_clips: 10}
        map:
            operations:
                - {type: VideoShortEdgeResize, size: 256, interpolation: 'linear'}
                - {type: VideoCenterCrop, size: [256, 256]}
                - {type: VideoRescale, shift: 0.0}
                - {type: VideoReOrder, order: [3,0,1,2]}
                - {type: VideoNormalize, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.255]}
            input_columns: ["video"]
    group_size: 1
"""


def test_the_published_yaml_loads_unchanged(tiny, capsys):
    tiny.write_text(PUBLISHED)
    config = configuration.load(["-c", str(tiny)], DEFAULT)
    published.check(config)
    assert "eval.num_clips 1 is" in capsys.readouterr().out
    assert config.data_loader.train.dataset.frame_interval == 6 and config.export.file_format == "MINDIR"
    assert sum(parameter.size for parameter in build(config).trainable_params()) == 35_397_840


def test_clips_of_another_size_than_the_model_says_are_an_error(tiny):
    with pytest.raises(UserError, match=r"model.in_h is 8, but data_loader.train makes clips of 24"):
        build(configuration.load(["-c", str(tiny), "--model.in_h=8"], DEFAULT))
