"""The programs from end to end on a tiny network: training, exact resuming, fine-tuning, published YAML."""

import re
import sys
from pathlib import Path

import eval as evaluate
import mindspore as ms
import numpy as np
import pytest
import train
import yaml

from ci.synthetic_videos import write_kinetics, write_ucf101  # pytest's pythonpath is the repository's root
from shared_utils import checkpoint
from shared_utils import config as configuration
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
    operations = [{"type": "VideoResize", "size": [16, 16]}, {"type": "VideoToTensor"}]
    dataset = {"path": str(kinetics), "seq": 4, "num_parallel_workers": 2}
    tree = {
        "base": str(DEFAULT),
        "model": {"num_classes": 2, "stage_channels": [4, 4, 8, 8], "keep_prob": 1.0},
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


def weights(path):
    return {name: tensor.asnumpy() for name, tensor in checkpoint.load(path)[0].items()}


def test_a_run_trains_validates_and_is_evaluated(execute, tmp_path):
    flags = ["train.accumulate=2", "train.ema=0.5", "train.clip_norm=1.0", "loss.label_smoothing=0.1"]
    status, told, error = execute(train, *flags)
    assert status == 0, error
    assert re.search(r"^epoch: 2 step: 1, loss is \d", told, re.MULTILINE)
    best = [line.split()[4] for line in told.splitlines() if "validation top-1" in line]
    assert len(best) == 2 and "trained 2 steps" in told
    path = tmp_path / "output" / "r2plus1d-best.ckpt"
    status, told, error = execute(evaluate, f"eval.pretrained_model={path}", "eval.num_crops=1")
    assert status == 0, error
    assert told.splitlines()[-1] == str({"Top_1_Accuracy": float(max(best)), "Top_5_Accuracy": 1.0})
    last = weights(tmp_path / "output" / "r2plus1d-2_1.ckpt")
    assert any((weights(path)[name] != last[name]).any() for name in weights(path))  # best has the average


def test_a_resumed_run_ends_with_the_same_weights(execute, tmp_path):
    flags = ["train.ema=0.9", "train.eval_epochs=0"]
    assert execute(train, *flags, f"train.ckpt_path={tmp_path}/whole")[0] == 0
    parts = [*flags, f"train.ckpt_path={tmp_path}/parts", "train.save_checkpoint_steps=2"]
    assert execute(train, *parts)[0] == 0
    for name in ("r2plus1d-1_3", "r2plus1d-2_3"):  # as if stopped after step 2 of 6
        (tmp_path / "parts" / f"{name}.ckpt").unlink()
    (tmp_path / "parts" / "r2plus1d-2_1.ckpt").unlink()
    status, told, error = execute(train, *parts, "train.resume=auto")
    assert status == 0 and "2 of 6 steps done" in told, error
    whole, resumed = (weights(tmp_path / folder / "r2plus1d-2_3.ckpt") for folder in ("whole", "parts"))
    assert whole.keys() == resumed.keys()
    for name, tensor in whole.items():
        np.testing.assert_array_equal(tensor, resumed[name], err_msg=name)


def test_fine_tuning_to_other_classes_replaces_the_classifier_on_request_alone(execute, tmp_path):
    write_ucf101(tmp_path / "ucf", [*MOTIONS, "RollLeft"], videos=4, frames=8, height=24, width=24)
    assert execute(train, "train.epochs=1", "train.eval_epochs=1")[0] == 0
    best = tmp_path / "output" / "r2plus1d-best.ckpt"
    flags = [
        "model.num_classes=3",
        "train.epochs=1",
        "train.freeze_norm=True",
        f"train.pretrained_model={best}",
        f"train.ckpt_path={tmp_path}/tuned",
        *(f"data_loader.{part}.dataset.type=UCF101" for part in ("train", "eval")),
        *(f"data_loader.{part}.dataset.path={tmp_path}/ucf" for part in ("train", "eval")),
        "data_loader.eval.dataset.split=test",
    ]
    status, _, error = execute(train, *flags)
    assert status == 1 and "classifier.weight is [2, 8] instead of [3, 8]" in error
    status, told, error = execute(train, *flags, "train.replace_classifier=True")
    assert status == 0 and "of 6 videos" in told, error
    before, after = weights(best), weights(tmp_path / "tuned" / "r2plus1d-best.ckpt")
    assert after["classifier.weight"].shape == (3, 8)
    moving = [name for name in before if "moving" in name]
    assert all((before[name] == after[name]).all() for name in moving)  # frozen
    status, _, error = execute(evaluate, *flags, f"eval.pretrained_model={best}", "model.num_classes=2")
    assert status == 1 and "has 3 classes, but model.num_classes is 2" in error


PUBLISHED = """
model_name: "r(2+1)d_18"
device_target: "GPU"
dataset_sink_mode: False
context: {mode: 0, device_target: "GPU", save_graphs: False, device_id: 1}
model:
    type: R2Plus1d18
    stage_channels: [64, 128, 256, 512]
    stage_strides: [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]]
    num_classes: 400
learning_rate: {lr_scheduler: "cosine_annealing", lr: 0.012, steps_per_epoch: 29850, lr_gamma: 0.1,
                eta_min: 0.0, t_max: 100,
                max_epoch: 100, warmup_epochs: 4}
optimizer: {type: 'Momentum', momentum: 0.9, weight_decay: 0.0004, loss_scale: 1.0}
loss: {type: SoftmaxCrossEntropyWithLogits, sparse: True, reduction: "mean"}
train: {pre_trained: False, pretrained_model: "", ckpt_path: "./output/", epochs: 100,
        save_checkpoint_epochs: 5, save_checkpoint_steps: 1875, keep_checkpoint_max: 10,
        run_distribute: False}
eval: {pretrained_model: "r2plus1d_kinetic400.ckpt"}
infer: {pretrained_model: "r2plus1d_kinetic400.ckpt", batch_size: 1, image_path: "", normalize: True,
        output_dir: "./infer_output"}
export: {pretrained_model: "", batch_size: 256, image_height: 224, image_width: 224, input_channel: 3,
         file_name: "r2plus1d18", file_formate: "MINDIR"}
data_loader:
    train:
        dataset: {type: Kinetic400, path: "/kinetics-400", split: 'train', batch_size: 8, seq: 16,
                  seq_mode: "discrete", num_parallel_workers: 1, shuffle: True}
        map:
            operations: &operations
                - {type: VideoRescale, shift: 0.0}
                - {type: VideoResize, size: [128, 171]}
                - {type: VideoRandomCrop, size: [112, 112]}
                - {type: VideoRandomHorizontalFlip, prob: 0.5}
                - {type: VideoReOrder, order: [3,0,1,2]}
                - {type: VideoNormalize, mean: [0.43216, 0.394666, 0.37645],
                   std: [0.22803, 0.22145, 0.216989]}
            input_columns: ["video"]
    eval:
        dataset: {type: Kinetic400, path: "/kinetics-400", split: 'val', batch_size: 1, seq: 64,
                  seq_mode: "discrete", num_parallel_workers: 1, shuffle: False}
        map: {operations: *operations, input_columns: ["video"]}
    group_size: 1
"""


def test_the_published_yaml_loads_unchanged(tmp_path, kinetics, execute, tiny):
    tiny.write_text(PUBLISHED)
    config = configuration.load(["-c", str(tiny)], DEFAULT)
    assert config.data_loader.eval.dataset.seq == 64 and config.export.file_format == "MINDIR"
    assert sum(parameter.size for parameter in build(config).trainable_params()) == 31_505_325
    where = [f"data_loader.{part}.dataset.path={kinetics}" for part in ("train", "eval")]
    small = [
        "context.device_target=CPU",
        "context.device_id=0",
        f"train.ckpt_path={tmp_path}/out",
        "train.epochs=1",
    ]
    few = ["model.num_classes=2", "model.stage_channels=[4,4,8,8]", "data_loader.train.dataset.seq=4"]
    status, told, error = execute(train, *where, *small, *few, "train.eval_epochs=0")
    assert status == 0 and "epoch: 1 step: 1, loss is" in told, error
    assert "note: device_target GPU is not used, context.device_target CPU is" in told


def test_another_networks_type_is_an_error():
    with pytest.raises(UserError, match=r"model.type is I3D, but this is R2Plus1D18"):
        build(configuration.load(["--model.type=I3D"], DEFAULT))


def test_mixed_precision_trains(execute, tmp_path):
    flags = ["train.amp_level=O2", "optimizer.loss_scale=1024", "train.epochs=1"]
    status, told, error = execute(train, *flags)
    assert status == 0 and "trained 3 steps" in told, error
    path = tmp_path / "output" / "r2plus1d-best.ckpt"
    assert all(tensor.dtype == ms.float32 for tensor in checkpoint.load(path)[0].values())
