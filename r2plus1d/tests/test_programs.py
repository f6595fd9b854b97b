"""The programs from end to end on a tiny network: training, exact resuming, fine-tuning, published YAML."""

import re
from pathlib import Path

import eval as evaluate
import mindspore as ms
import numpy as np
import pytest
import train

from ci.synthetic_videos import write_ucf101  # pytest's pythonpath is the repository's root
from shared_utils import checkpoint
from shared_utils import config as configuration
from shared_utils.config import UserError
from shared_utils.datasets import write_label_map
from shared_utils.tests.programs import MOTIONS, train_and_evaluate, wrong_validation_is_refused
from src.build import build

DEFAULT = Path(__file__).resolve().parents[1] / "default_config.yaml"


def weights(path):
    return {name: tensor.asnumpy() for name, tensor in checkpoint.load(path)[0].items()}


def test_a_run_trains_validates_and_is_evaluated(execute, tiny, tmp_path):
    flags = ["accumulate=2", "ema=0.5", "clip_norm=1.0"]
    flags = [*(f"--train.{flag}" for flag in flags), "--loss.label_smoothing=0.1"]
    best = train_and_evaluate(execute, train, evaluate, tiny, *flags)
    last = weights(tmp_path / "output" / "r2plus1d-2_1.ckpt")
    assert any((best[name].asnumpy() != last[name]).any() for name in best)  # the best is the average


def test_a_resumed_run_ends_with_the_same_weights(execute, tiny, tmp_path):
    flags = ["-c", tiny, "--train.ema=0.9", "--model.keep_prob=0.5", "--train.save_checkpoint_steps=2"]
    status, _, error = execute(train, *flags, "--train.eval_epochs=0")
    assert status == 1 and error.startswith("error: train.ema is kept in the best checkpoint alone")
    assert execute(train, *flags)[0] == 0
    whole = weights(tmp_path / "output/r2plus1d-2_3.ckpt")
    for state in ("1_3", "2_1", "2_3"):  # as if stopped after step 2 of 6
        (tmp_path / f"output/r2plus1d-{state}.ckpt").unlink()
    flags += ["--data_loader.train.dataset.num_parallel_workers=1"]  # of 2; any count reads the same
    status, told, error = execute(train, *flags, "--train.resume=auto")
    assert status == 0 and "2 of 6 steps done" in told, error
    resumed = weights(tmp_path / "output/r2plus1d-2_3.ckpt")
    assert whole.keys() == resumed.keys()
    for name, tensor in whole.items():
        np.testing.assert_array_equal(tensor, resumed[name], err_msg=name)
    flags += ["--train.resume=auto", "--data_loader.eval.dataset.split=train"]
    _, told, _ = execute(train, *flags)
    assert re.search(r"note: (\d+) of the \1 validation videos are trained on\n", told), told


def test_fine_tuning_to_other_classes_replaces_the_classifier_on_request_alone(execute, tiny, tmp_path):
    write_ucf101(tmp_path / "ucf", [*MOTIONS, "RollLeft"], videos=4, frames=8, height=24, width=24)
    assert execute(train, "-c", tiny, "--train.epochs=1")[0] == 0
    best = tmp_path / "output" / "r2plus1d-best.ckpt"
    flags = [
        "-c",
        tiny,
        "--model.num_classes=3",
        "--train.epochs=1",
        "--train.freeze_norm=True",
        f"--train.pretrained_model={best}",
        f"--train.ckpt_path={tmp_path}/tuned",
        *(f"--data_loader.{part}.dataset.type=UCF101" for part in ("train", "eval")),
        *(f"--data_loader.{part}.dataset.path={tmp_path}/ucf" for part in ("train", "eval")),
        "--data_loader.eval.dataset.split=test",
    ]
    status, _, error = execute(train, *flags)
    assert status == 1 and "classifier.weight is [2, 8] instead of [3, 8]" in error
    write_label_map(best, {"other": 0, "classes": 1, "here": 2})
    status, told, error = execute(train, *flags, "--train.replace_classifier=True")
    assert status == 0 and "of 6 videos" in told, error
    tuned = tmp_path / "tuned" / "r2plus1d-best.ckpt"
    write_label_map(tuned, {"other": 0, "classes": 1, "here": 2})
    status, _, error = execute(train, *flags, f"--train.pretrained_model={tuned}")
    assert status == 1 and "without train.replace_classifier: its label map differs from the data" in error
    before, after = weights(best), weights(tmp_path / "tuned" / "r2plus1d-best.ckpt")
    assert after["classifier.weight"].shape == (3, 8)
    moving = [name for name in before if "moving" in name]
    assert all((before[name] == after[name]).all() for name in moving)  # frozen
    status, _, error = execute(evaluate, *flags, f"--eval.pretrained_model={best}", "--model.num_classes=2")
    assert status == 1 and "3 classes in " in error


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


def test_the_published_yaml_loads_unchanged(tmp_path, kinetics, execute):
    published = tmp_path / "published.yaml"
    published.write_text(PUBLISHED)
    config = configuration.load(["-c", str(published)], DEFAULT)
    assert config.data_loader.eval.dataset.seq == 64 and config.export.file_format == "MINDIR"
    assert sum(parameter.size for parameter in build(config).trainable_params()) == 31_505_325
    flags = [
        *(f"--data_loader.{part}.dataset.path={kinetics}" for part in ("train", "eval")),
        "--context.device_target=CPU",
        "--context.device_id=0",
        f"--train.ckpt_path={tmp_path}/out",
        "--train.epochs=1",
        "--train.eval_epochs=0",
        "--model.num_classes=2",
        "--model.stage_channels=[4,4,8,8]",
        "--data_loader.train.dataset.seq=4",
    ]
    status, told, error = execute(train, "-c", published, *flags)
    assert status == 0 and "epoch: 1 step: 1, loss is" in told, error
    assert "note: device_target GPU is not used, context.device_target CPU is" in told


def test_another_networks_type_is_an_error():
    with pytest.raises(UserError, match=r"model.type is I3D, but R2Plus1D18 is all there is"):
        configuration.load(["--model.type=I3D"], DEFAULT)


def test_mixed_precision_trains(execute, tiny):
    flags = ["--train.amp_level=O2", "--optimizer.loss_scale=1024", "--train.epochs=1"]
    best = train_and_evaluate(execute, train, evaluate, tiny, *flags)
    assert all(tensor.dtype == ms.float32 for tensor in best.values())


def test_wrong_validation_is_refused(execute, tiny, kinetics):
    wrong_validation_is_refused(execute, train, tiny, kinetics)
