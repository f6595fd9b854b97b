"""The programs on short clips: training in float16, validation, evaluation; the configuration's checks."""

from pathlib import Path

import eval as evaluate
import mindspore as ms
import pytest
import train

from shared_utils import config as configuration
from shared_utils.config import UserError
from shared_utils.tests.programs import train_and_evaluate, wrong_validation_is_refused
from src.build import build

DEFAULT = Path(__file__).resolve().parents[1] / "default_config.yaml"


def test_a_run_trains_validates_and_is_evaluated_with_mixed_precision(execute, tiny):
    flags = ["--train.amp_level=O2", "--optimizer.loss_scale=16", "--train.epochs=1"]
    best = train_and_evaluate(execute, train, evaluate, tiny, *flags)
    assert all(tensor.dtype == ms.float32 for tensor in best.values())
    status, _, error = execute(train, "-c", tiny, *flags, "--optimizer.loss_scale=1e7")
    assert status == 1 and error.startswith("error: epoch 1: no gradients are finite in 3 updates"), error


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


def test_the_published_yaml_loads_unchanged(tmp_path, capsys):
    (tmp_path / "published.yaml").write_text(PUBLISHED)
    config = configuration.load(["-c", str(tmp_path / "published.yaml")], DEFAULT)
    assert "eval.num_clips 1 is" in capsys.readouterr().out
    assert config.data_loader.train.dataset.frame_interval == 6 and config.export.file_format == "MINDIR"
    assert sum(parameter.size for parameter in build(config).trainable_params()) == 35_397_840


def test_clips_of_another_size_than_the_model_says_are_an_error(tiny):
    with pytest.raises(UserError, match=r"model.in_h is 8, but data_loader.train makes clips of 24"):
        build(configuration.load(["-c", str(tiny), "--model.in_h=8"], DEFAULT))
    free = ["--data_loader.train.map.operations=[{type: VideoToTensor}]"]  # frames as they are
    build(configuration.load(["-c", str(tiny), "--model.in_h=8", *free], DEFAULT))


def test_wrong_validation_is_refused(execute, tiny, kinetics):
    wrong_validation_is_refused(execute, train, tiny, kinetics)
