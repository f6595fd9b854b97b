"""The programs from end to end on short clips: training, exact resuming, evaluation, export, inference."""

import json
import re
import sys
from pathlib import Path

import eval as evaluate
import export
import infer
import infer_310
import mindspore as ms
import numpy as np
import pytest
import train
import yaml
from ml_collections import ConfigDict

from shared_utils import checkpoint
from shared_utils import config as configuration
from shared_utils.config import UserError
from shared_utils.datasets import read_label_map, write_label_map
from src import settings, video2pkl
from src.evaluation import answers
from src.inflate import RESNET, load_resnet, source_name, super_image_kernels
from src.loss import CrossEntropySmooth
from src.network import StNet

DEFAULT = Path(__file__).resolve().parents[1] / "default_config.yaml"


@pytest.fixture
def tiny(kinetics, tmp_path):
    tree = {
        "base": str(DEFAULT),
        "dataset_type": "kinetics400",
        "dataset_path": str(kinetics),
        "eval_split": "val",
        "class_num": 2,
        "T": 2,
        "N": 2,
        "short_size": 24,
        "target_size": 24,
        "avgpool_kernel_size": 1,
        "target": "CPU",
        "from_scratch": True,
        "batch_size": 4,
        "num_epochs": 2,
        "checkpoint_path": f"{tmp_path}/ckpt",
        "eval_dir": f"{tmp_path}/eval",
        "infer_dir": f"{tmp_path}/infer",
        "file_name": f"{tmp_path}/net",
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def weights(path):
    return {name: tensor.asnumpy() for name, tensor in checkpoint.load(path)[0].items()}


def test_a_run_trains_is_evaluated_exported_and_predicts(execute, tiny, kinetics, tmp_path):
    status, told, error = execute(train, "-c", tiny)
    assert status == 0, error
    assert re.search(r"^epoch: 1 step: 1, loss is \d", told, re.MULTILINE)
    best = max(line.split()[4] for line in told.splitlines() if "validation top-1" in line)
    checkpoint_ = tmp_path / "ckpt/stnet-best.ckpt"
    answers_ = set()
    for batch in (3, 8):  # every video once, whatever the batch
        flags = ["-c", tiny, f"--resume={checkpoint_}", f"--eval_batch_size={batch}"]
        status, told, error = execute(evaluate, *flags)
        assert status == 0, error
        answers_.add(told.splitlines()[-1])
        assert "4 videos of 2 classes, 1 view each, 0 of them bad and counted as wrong" in told
    assert answers_ == {f"accuracy:{{'acc':{float(best)}}}"}
    results = json.loads((tmp_path / "eval/results.json").read_text())
    assert results["top1"] == float(best) and results["videos"] == 4

    status, told, error = execute(export, "-c", tiny, f"--resume={checkpoint_}")
    assert status == 0 and "reloaded, largest difference" in told, error
    top1 = round(4 * float(best))
    for flags in ([], ["--preprocess=False", "--dataset_path="]):  # the second from what the first one made
        flags += [f"--resume={tmp_path}/net.mindir", f"--preprocess_dir={tmp_path}/super_images"]
        status, told, error = execute(infer_310, "-c", tiny, *flags)
        assert status == 0 and "net.mindir through MINDIR on the CPU, 4 videos, 0 of them bad" in told, error
        assert told.splitlines()[-1] == f"top1_correct={top1}, tot=4, acc={25 * top1:.2f}%"

    write_label_map(tmp_path / "net.mindir", {"other": 0, "classes": 1})
    status, _, error = execute(infer_310, "-c", tiny, *flags)
    assert status == 1 and "net.mindir differs from the data set's: class other is 0 there" in error
    write_label_map(tmp_path / "net.mindir", read_label_map(checkpoint_))

    guesses = []
    for file in (checkpoint_, tmp_path / "net.mindir"):
        flags = ["-c", tiny, f"--resume={file}", f"--image_path={kinetics}/val"]
        status, told, error = execute(infer, *flags)
        assert status == 0 and "4 videos, 0 of them bad; predictions.jsonl in" in told, error
        lines = (tmp_path / "infer/predictions.jsonl").read_text().splitlines()
        guesses.append([json.loads(line)["top5"] for line in lines])
        assert (tmp_path / "infer" / json.loads(lines[0])["picture"]).stat().st_size > 500
    for one, other in zip(*guesses):
        assert [guess["class"] for guess in one] == [guess["class"] for guess in other]
        assert one[0]["score"] == pytest.approx(other[0]["score"], abs=1e-5)
        assert {guess["class"] for guess in one} == {"slide up", "zoom in"}
    lists = (kinetics / "kinetics-400_val.csv", kinetics / "val", tmp_path / "pickles", 1)
    assert video2pkl.main(list(map(str, lists))) == 0
    status, told, error = execute(infer, *flags[:-1], f"--image_path={tmp_path}/pickles")
    assert status == 0 and "4 videos, 0 of them bad" in told, error
    (tmp_path / "text.mp4").write_text("no video")
    status, _, error = execute(infer, *flags[:-1], f"--image_path={tmp_path}/text.mp4")
    assert status == 1 and error.endswith("error: none of the 1 videos can be decoded\n")


def test_a_resumed_run_ends_with_the_same_weights(execute, tiny, tmp_path):
    flags = ["-c", tiny, "--run_eval=False", "--keep_checkpoint_max=2"]
    assert execute(train, *flags)[0] == 0
    (state,) = (tmp_path / "ckpt").glob("stnet-1_*.ckpt")
    (last,) = (tmp_path / "ckpt").glob("stnet-2_*.ckpt")
    whole = weights(last)
    last.unlink()  # as if stopped after the first epoch
    status, told, error = execute(train, *flags, "--resume=auto", "--workers=1")
    assert status == 0 and "resumed from" in told, error
    resumed = weights(last)
    for name, tensor in whole.items():
        np.testing.assert_array_equal(tensor, resumed[name], err_msg=name)
    # weights alone start a run, which has all its epochs before it
    best = {name: ms.Parameter(array) for name, array in resumed.items()}
    names = [parameter.name for parameter in StNet(2, N=2).get_parameters()]
    checkpoint.save(tmp_path / "w.ckpt", {name: best[name] for name in names}, {"weights": names})
    more = [f"--resume={tmp_path}/w.ckpt", f"--checkpoint_path={tmp_path}/more", "--num_epochs=1", "--lr=0.0"]
    status, told, error = execute(train, *flags, *more)
    assert status == 0 and "resumed" not in told, error
    (last,) = (tmp_path / "more").glob("stnet-1_*.ckpt")
    np.testing.assert_array_equal(weights(last)["classifier.weight"], resumed["classifier.weight"])
    write_label_map(tmp_path / "w.ckpt", {"other": 0, "classes": 1})
    status, _, error = execute(train, *flags, *more)
    assert status == 1 and "w.ckpt differs from the data set's: class other is 0 there" in error
    assert state.exists()


def test_training_begins_with_imagenet_weights_or_on_request_without(execute, tiny):
    status, _, error = execute(train, "-c", tiny, "--from_scratch=False")
    assert status == 1 and "name ImageNet weights to start from by pre_res50, or set from_scratch" in error
    status, _, error = execute(train, "-c", tiny, "--pre_res50=gone.ckpt")
    assert status == 1 and "no checkpoint at gone.ckpt" in error
    path = tiny.parent / "other.ckpt"
    checkpoint.save(path, {"other.weight": ms.Parameter(np.zeros(2, np.float32))})
    status, _, error = execute(train, "-c", tiny, f"--pre_res50={path}")
    assert status == 1 and error.startswith(f"error: {path}: not this layout, "), error


def test_model_zoo_weights_start_the_network(tmp_path, pynative, capsys):
    network, tensors = StNet(3, N=2), {}
    parameters = {parameter.name: parameter for parameter in network.get_parameters()}
    rng = np.random.default_rng(0)
    for name, parameter in parameters.items():
        if not name.startswith(("temporal", "xception", "classifier")):
            shape = (64, 3, 7, 7) if name == "stem.conv.weight" else parameter.shape
            tensors[source_name(name, RESNET)] = rng.normal(size=shape).astype(np.float32)
    tensors["end_point.weight"] = np.zeros((1001, 2048), np.float32)
    kept = parameters["classifier.weight"].asnumpy().copy()
    path = tmp_path / "resnet50.ckpt"
    checkpoint.save(path, {name: ms.Parameter(array) for name, array in tensors.items()})
    load_resnet(network, path)
    np.testing.assert_array_equal(
        parameters["stem.conv.weight"].asnumpy(), super_image_kernels(tensors["conv1.weight"], 2)
    )
    for name, key in (
        ("res3.0.shortcut.conv.weight", "layer2.0.down_sample_layer.0.weight"),
        ("res5.2.conv3.conv.weight", "layer4.2.conv3.weight"),
    ):
        np.testing.assert_array_equal(parameters[name].asnumpy(), tensors[key])
    norm = parameters["res4.1.conv2.norm.moving_variance"].asnumpy()
    np.testing.assert_array_equal(norm, tensors["layer3.1.bn2.moving_variance"])
    np.testing.assert_array_equal(parameters["classifier.weight"].asnumpy(), kept)
    del tensors["layer1.0.conv1.weight"]
    checkpoint.save(path, {name: ms.Parameter(array) for name, array in tensors.items()})
    with pytest.raises(UserError, match=r"1 tensors differ: missing layer1\.0"):
        load_resnet(network, path)


def test_more_than_the_whole_label_cannot_be_smoothed():
    with pytest.raises(UserError, match="label_smoothing must be at most 1, not 7"):
        CrossEntropySmooth(5, 7.5)


def test_smoothed_cross_entropy_is_the_formula():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(3, 5)).astype(np.float32), np.array([0, 4, 2], np.int32)
    wanted = np.full((3, 5), 0.1 / 4)
    wanted[np.arange(3), labels] = 0.9
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    loss = CrossEntropySmooth(5, 0.1)(ms.Tensor(logits), ms.Tensor(labels))
    assert float(loss.asnumpy()) == pytest.approx(-(wanted * logs).sum(1).mean(), rel=1e-5)


def test_the_rate_falls_every_lr_decay_rate_epochs():
    from shared_utils import optim

    config = configuration.load(["--lr=0.1", "--num_epochs=5", "--lr_decay_rate=2", "--gamma=0.5"], DEFAULT)
    rates = optim.learning_rates(settings.learning_rate(config), 3, 5)
    assert rates == pytest.approx([0.1] * 6 + [0.05] * 6 + [0.025] * 3)


def test_bad_videos_keep_their_place_among_the_answers():
    from shared_utils.video import VideoError

    class Reader:
        workers = 2

        def clip(self, path, label=None):
            if path % 3 == 1:
                raise VideoError(path, "broken")
            return np.full((2, 3, 4, 4), path, np.float32)

    calls = []

    def answer(clips):
        calls.append(len(clips))
        return clips[:, 0, 0, 0, :1]

    found = list(answers(answer, Reader(), [(number, None) for number in range(11)], 3))
    assert [number for number, row in enumerate(found) if isinstance(row, VideoError)] == [1, 4, 7, 10]
    assert [int(row[0]) for row in found if not isinstance(row, VideoError)] == [0, 2, 3, 5, 6, 8, 9]
    assert calls == [3, 3, 3]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--target_size=224"], "avgpool_kernel_size is 4, but a target_size of 224 leaves 7x7"),
        (["--profile=True"], "profile is True, but False is all there is"),
        (["--mode=EAGER"], "mode must be GRAPH or PYNATIVE, not EAGER"),
        (["--lr_decay_rate=0"], "lr_decay_rate must be at least 1"),
        (["--resume=auto"], "name the checkpoint by --resume"),
    ],
)
def test_contradictions_are_told(flags, told):
    with pytest.raises(UserError, match=told):
        config = configuration.load(flags, DEFAULT)
        settings.job(config)
        settings.learning_rate(config)
        settings.build(config)
        settings.trained(config)


PUBLISHED = """
dataset_type: "ucf101"
target_size: 112
short_size: 128
class_num: 101
avgpool_kernel_size: 4
T: 7
N: 5
image_mean: [0.485, 0.456, 0.406]
image_std: [0.229, 0.224, 0.225]
dataset_path: ""
run_distribute: False
resume: ""
device_num: 1
rank_id: 0
profile: False
dataset_sink_mode: True
batch_size: 16
steps_size: 0
num_epochs: 90
mode: "GRAPH"
target: ""
device_id: 0
workers: 2
save_checkpoint: True
eval_per_epoch: 10
parameter_server: True
keep_checkpoint_max: 5
save_checkpoint_epochs: 1
save_best_ckpt: True
eval_start_epoch: 40
run_eval: False
eval_interval: 10
pre_res50: ""
momentum: 0.9
lr: 0.001
lr_decay_rate: 40
gamma: 0.1
weight_decay: 0.0001
checkpoint_path: "./ckpt"
val_data_dir: ""
summary_dir: "./summary"
run_online: False
data_url: ""
local_data_url: ""
pre_res50_art_load_path: ""
best_acc_art_load_path: ""
pre_url: ""
load_path: ""
local_train_list: ""
local_val_list: ""
train_url: ""
output_path: ""
"""


def test_the_published_keys_load(tmp_path, capsys):
    (tmp_path / "published.yaml").write_text(PUBLISHED)
    config = configuration.load(["-c", str(tmp_path / "published.yaml")], DEFAULT)
    assert isinstance(config, ConfigDict) and config.num_epochs == 90
    assert "note: eval_start_epoch 40 is not used, eval_interval 10 is" in capsys.readouterr().out


LITE = '''
import numpy as np
class Context:
    class ascend: device_id = None
class ModelType: MINDIR = "mindir"
class Input:
    shape = (1, 2, 6, 24, 24)
    def set_data_from_numpy(self, array): self.array = array
class Answer:
    def __init__(self, array): self.array = array
    def get_data_to_numpy(self): return np.array([[self.array.mean(), 0.0]])
class Model:
    def build_from_file(self, path, kind, context):
        assert (context.target, kind) == (["ascend"], "mindir")
        if "bad" in path: raise RuntimeError("cannot be built")
        self.inputs = [Input()]
        print("on", context.ascend.device_id)
    def get_inputs(self): return self.inputs
    def predict(self, inputs): return [Answer(inputs[0].array)]
'''


def test_mindspore_lite_answers_on_an_ascend(execute, tiny, tmp_path, monkeypatch):
    """MindSpore Lite is to be had on such machines alone: this one has its functions and a rule to answer."""
    (tmp_path / "mindspore_lite.py").write_text(LITE)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "net.mindir").touch()
    (tmp_path / "bad.mindir").touch()
    folder = tmp_path / "super_images"
    folder.mkdir()
    entries = [{"video": str(sign), "label": 0, "clip": f"{sign}.npy"} for sign in (-1, 1, 2)]
    (folder / "videos.json").write_text(json.dumps([*entries, {"video": "cut", "label": 0, "clip": None}]))
    for sign in (-1, 1, 2):
        np.save(folder / f"{sign}.npy", np.full((1, 2, 6, 24, 24), sign, np.float32))
    flags = ["-c", tiny, "--preprocess=False", f"--preprocess_dir={folder}"]
    flags += ["--target=Ascend", "--device_id=3"]
    status, told, error = execute(infer_310, *flags, f"--resume={tmp_path}/net.mindir")
    assert status == 0 and "on 3\n" in told, error
    assert "net.mindir through MindSpore Lite on Ascend 3, 4 videos, 1 of them bad" in told
    assert told.splitlines()[-1] == "top1_correct=2, tot=4, acc=50.00%"
    status, _, error = execute(infer_310, *flags, f"--resume={tmp_path}/bad.mindir")
    assert status == 1 and "MindSpore Lite cannot load" in error
    np.save(folder / "1.npy", np.zeros((1, 2, 6, 20, 20), np.float32))
    status, _, error = execute(infer_310, *flags, f"--resume={tmp_path}/net.mindir")
    assert status == 1 and "1.npy is [1, 2, 6, 20, 20], but the MINDIR takes [1, 2, 6, 24, 24]" in error
    (folder / "videos.json").unlink()
    status, _, error = execute(infer_310, *flags, f"--resume={tmp_path}/net.mindir")
    assert status == 1 and "make them by preprocess=True first" in error


def test_a_mindir_that_cannot_be_run_is_told(execute, tiny, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "mindspore_lite", raising=False)  # of the test before
    for flags, told in [
        ([f"--resume={tmp_path}/gone.mindir"], "gone.mindir is no .mindir file"),
        (["--resume=net.onnx"], "net.onnx is no .mindir file"),
        (["--resume=net.mindir", "--target=GPU"], "target must be CPU or Ascend"),
        ([f"--resume={tmp_path}/net.mindir", "--target=Ascend"], "MindSpore Lite is not installed"),
    ]:
        (tmp_path / "net.mindir").touch()
        status, _, error = execute(infer_310, "-c", tiny, *flags)
        assert status == 1 and told in error
