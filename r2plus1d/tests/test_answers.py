"""eval.py, infer.py, export.py: what a user gets for a split, for a video, for a file; of a tiny network."""

import csv
import json
import os
import shutil
from pathlib import Path

import eval as evaluate
import export
import infer
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from ml_collections import ConfigDict

from ci.synthetic_videos import write_kinetics
from shared_utils import checkpoint, datasets, exporting
from shared_utils.config import UserError
from src import evaluation
from src.dataset import LabelledVideos

NAMES = ["slide down", "slide up", "zoom in", "zoom out"]


class Network(nn.Cell):
    """Logits (B, classes) that are linear in the mean of each colour."""

    def __init__(self, classes=4):
        super().__init__()
        self.classifier = nn.Dense(3, classes, weight_init="normal")

    def features(self, views):
        return views.mean((2, 3, 4))

    def construct(self, views):
        return 20 * self.classifier(self.features(views))


@pytest.fixture(scope="module")
def kinetics(tmp_path_factory):
    """Kinetics-400's layout: 4 classes of 10 videos of about 8 frames; one video of val is broken."""
    folder = tmp_path_factory.mktemp("data") / "kinetics"
    motions = ["SlideDown", "SlideUp", "ZoomIn", "ZoomOut"]
    write_kinetics(folder, motions, videos=10, frames=8, height=20, width=30)
    sorted((folder / "val").iterdir())[3].write_bytes(b"no video")
    return folder


@pytest.fixture
def config(kinetics, tmp_path, monkeypatch):
    """What evaluation, inference and export read of a YAML, with a checkpoint and its label map."""
    for program in (evaluate, export, infer):
        monkeypatch.setattr(program, "build", lambda config: Network())
        monkeypatch.setattr(program.device, "start", lambda config: (0, 1))
    ms.set_seed(1)
    network = Network()
    best = tmp_path / "best.ckpt"
    checkpoint.save(best, {parameter.name: parameter for parameter in network.get_parameters()})
    datasets.write_label_map(best, {name: label for label, name in enumerate(NAMES)})
    dataset = {
        "type": "Kinetic400",
        "path": str(kinetics),
        "split": "val",
        "list": "1",
        "seq": 4,
        "seq_mode": "part",
        "frame_interval": 1,
        "max_bad_videos": 5,
        "num_parallel_workers": 2,
    }
    operations = [
        {"type": "VideoShortEdgeResize", "size": 16},
        {"type": "VideoCenterCrop", "size": [16, 16]},
        {"type": "VideoToTensor"},
    ]
    own = {"pretrained_model": str(best), "output_dir": str(tmp_path / "out")}
    return ConfigDict(
        {
            "seed": 1,
            "model_name": "tiny",
            "context": {"device_target": "CPU"},
            "model": {"num_classes": 4},
            "train": {"amp_level": "O0"},
            "eval": {**own, "num_clips": 2, "num_crops": 3, "batch_size": 5, "leave_out_bad": False},
            "infer": {**own, "image_path": "", "batch_size": 2, "features": False, "render": "gif"},
            "export": {
                "pretrained_model": str(best),
                "batch_size": 2,
                "input_channel": 3,
                "image_height": 16,
                "image_width": 16,
                "file_name": str(tmp_path / "net"),
                "file_format": "MINDIR",
                "features": False,
            },
            "data_loader": {"eval": {"dataset": dataset, "map": {"operations": operations}}},
        }
    )


def loaded(config):
    network = Network()
    checkpoint.load_weights(network, config.eval.pretrained_model)
    return network


def test_a_split_is_judged_by_video_and_a_bad_one_is_wrong(config, tmp_path, capsys):
    videos = LabelledVideos(config.data_loader.eval, 4)
    scores = evaluation.probabilities(loaded(config), videos, config.eval)
    bad = np.flatnonzero(scores[:, 0] < 0)
    assert scores.shape == (8, 4) and len(bad) == 1
    np.testing.assert_allclose(np.delete(scores, bad, 0).sum(1), 1, atol=1e-6)
    config.eval.batch_size = 8
    np.testing.assert_allclose(
        evaluation.probabilities(loaded(config), videos, config.eval), scores, atol=1e-6
    )
    told = capsys.readouterr()
    assert told.err.count("bad video 1: ") == 1 and "eval: 8/8" in told.out

    labels = np.array([video.label for video in videos.videos])
    right = (scores.argmax(1) == labels) & (scores[:, 0] >= 0)
    assert evaluation.top1(loaded(config), videos, config.eval) == right.sum() / 8
    evaluate.main(config)
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == str({"Top_1_Accuracy": round(right.sum() / 8, 4), "Top_5_Accuracy": 0.875})
    assert "8 videos of 4 classes, 6 views each, 1 of them bad and counted as wrong" in told[-2]
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["top1"] == right.sum() / 8 and results["bad_videos"] == 1 and results["videos"] == 8
    assert results["views"] == 6
    by_class = [right[labels == label].mean() for label in range(4)]
    assert results["mean_class"] == pytest.approx(np.mean(by_class))
    with open(tmp_path / "out" / "val_per_class.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == NAMES and [row["count"] for row in rows] == ["2"] * 4
    assert [float(row["accuracy"]) for row in rows] == by_class
    assert (tmp_path / "out" / "val_confusion.png").stat().st_size > 1000

    config.eval.leave_out_bad = True
    evaluate.main(config)
    assert str(round(right.sum() / 7, 4)) in capsys.readouterr().out.splitlines()[-1]


def test_a_label_map_that_differs_and_no_readable_video(config):
    with pytest.raises(UserError, match=r"none of the 8 videos can be decoded"):
        evaluate.score_split(np.full((8, 4), -1.0), LabelledVideos(config.data_loader.eval, 4), False)
    labels = {name: NAMES.index(name) for name in NAMES[:3]}
    datasets.write_label_map(config.eval.pretrained_model, labels)
    with pytest.raises(UserError, match=r"class zoom out is missing there and 3 here"):
        evaluate.main(config)


def predictions(config):
    with open(f"{config.infer.output_dir}/predictions.jsonl", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def test_checkpoint_mindir_and_onnx_predict_alike(config, kinetics, tmp_path, capsys):
    config.infer.image_path = str(kinetics / "val")
    answers = []
    for file_format in ("", "MINDIR", "ONNX"):
        if file_format:
            config.export.file_format = file_format
            export.main(config)
            config.infer.pretrained_model = f"{tmp_path}/net.{file_format.lower()}"
            assert "reloaded, largest difference" in capsys.readouterr().out
        infer.main(config)
        answers.append(predictions(config))
    for entries in answers:
        assert [len(entry.get("top5", [])) for entry in entries] == [4, 4, 4, 0, 4, 4, 4, 4]
        assert "cannot decode" in entries[3]["error"]
        for entry, first in zip(entries, answers[0]):
            for guess, other in zip(entry.get("top5", []), first.get("top5", [])):
                assert guess["class"] == other["class"] == NAMES[guess["id"]]
                assert guess["score"] == pytest.approx(other["score"], abs=1e-5)
    videos = LabelledVideos(config.data_loader.eval, 4)
    scores = evaluation.probabilities(loaded(config), videos, config.eval)
    by_id = {video.path.name: row for video, row in zip(videos.videos, scores)}
    for entry in answers[0][:3]:  # the same as in the evaluation
        row = by_id[entry["video"].rsplit("/", 1)[1]]
        assert entry["top5"][0]["score"] == pytest.approx(row.max(), abs=1e-6)
    assert "8 videos, 1 of them bad; predictions.jsonl in" in capsys.readouterr().out
    config.data_loader.eval.dataset.seq = 3
    with pytest.raises(
        UserError, match=r"takes clips of \[2, 3, 4, 16, 16\], data_loader.eval makes \[2, 3, 3"
    ):
        infer.main(config)
    config.infer.features = True
    with pytest.raises(UserError, match=r"no features behind its 4 scores: export it with export.feat"):
        infer.main(config)


def test_features_of_checkpoint_mindir_and_onnx_are_alike(config, kinetics, tmp_path):
    config.infer.image_path, config.infer.features = str(kinetics / "test"), True
    config.infer.render, config.export.features = "none", True
    answers, rows = [], []
    for file_format in ("", "MINDIR", "ONNX"):
        if file_format:
            config.export.file_format = file_format
            export.main(config)
            config.infer.pretrained_model = f"{tmp_path}/net.{file_format.lower()}"
        infer.main(config)
        answers.append([[guess["class"] for guess in entry["top5"]] for entry in predictions(config)])
        rows.append(np.load(tmp_path / "out" / "features.npy"))
    assert answers[0] == answers[1] == answers[2] and rows[0].shape == (len(answers[0]), 3)
    config.infer.features, config.model.num_classes = False, 3
    for told in ("the classes of its label map are 4", "model.num_classes is 3"):
        with pytest.raises(UserError, match=f"gives 7 numbers a clip, {told}: infer.features=true"):
            infer.main(config)
        (tmp_path / "net.onnx.labels.json").unlink(missing_ok=True)
    for other in rows[1:]:
        np.testing.assert_allclose(other, rows[0], atol=1e-5)


def test_features_and_pictures_of_a_list(config, kinetics, tmp_path):
    paths = sorted((kinetics / "test").iterdir())[:2]
    odd = shutil.copy(paths[0], tmp_path / os.fsdecode(b"caf\xe9.mp4"))  # bytes that are no UTF-8
    config.infer.image_path, config.infer.render = str(odd), "gif"
    infer.main(config)
    (entry,) = predictions(config)
    assert entry["video"] == str(odd) and (tmp_path / "out" / entry["picture"]).exists()
    (tmp_path / "some.txt").write_text(f"{paths[1]}\n\nnot_there.mp4\n{paths[0]}\n")
    config.infer.image_path = str(tmp_path / "some.txt")
    config.infer.features, config.infer.render = True, "mp4"
    infer.main(config)
    entries = predictions(config)
    assert "no such file" in entries[1]["error"] and [entries[0]["features"], entries[2]["features"]] == [
        0,
        1,
    ]
    features = np.load(tmp_path / "out" / "features.npy")
    assert features.shape == (2, 3) and features.dtype == np.float32
    network = loaded(config)
    logits = 20 * network.classifier(ms.Tensor(features)).asnumpy()
    assert [NAMES[label] for label in logits.argmax(1)] == [
        entries[row]["top5"][0]["class"] for row in (0, 2)
    ]
    for row in (0, 2):
        assert (tmp_path / "out" / entries[row]["picture"]).stat().st_size > 500


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("image_path", "", "name a video, a folder of videos or a .txt list"),
        ("image_path", "no.mp4", "no file or folder at no.mp4"),
        ("image_path", "{}", "no videos in"),
        ("image_path", "{}/../text.mp4", "none of the 1 videos can be decoded"),
        ("render", "png", "infer.render must be gif, mp4 or none, not png"),
        ("pretrained_model", "no.ckpt", "no checkpoint at no.ckpt"),
        ("pretrained_model", "no.onnx", "no file at no.onnx"),
    ],
)
def test_mistakes_at_inference(config, kinetics, tmp_path, key, value, told):
    config.infer.image_path = str(kinetics / "test")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    config.infer[key] = value.format(tmp_path / "empty")
    earlier = Path(config.infer.output_dir, "predictions.jsonl")
    earlier.parent.mkdir(exist_ok=True)
    earlier.write_text("an earlier run's\n")
    with pytest.raises(UserError, match=told):
        infer.main(config)
    assert earlier.read_text() == "an earlier run's\n"


def test_a_folder_of_frames_is_a_video(tmp_path):
    (tmp_path / "000000.jpg").touch()
    assert infer.input_videos(str(tmp_path)) == [tmp_path]


@pytest.mark.parametrize("name", ["a.mindir", "a.onnx"])
def test_a_damaged_exported_file_is_told(tmp_path, name):
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(UserError, match=r"is no (MINDIR|ONNX)"):
        exporting.load_exported(tmp_path / name)


def test_an_export_that_differs_leaves_the_earlier_file(config, tmp_path, monkeypatch):
    (tmp_path / "net.onnx").write_bytes(b"an earlier one")
    config.export.file_format = "ONNX"
    monkeypatch.setattr(
        exporting, "load_exported", lambda path: (lambda clips: np.full((2, 4), np.nan), None)
    )
    with pytest.raises(UserError, match=r"the exported ONNX differs from the network by nan"):
        export.main(config)
    assert (tmp_path / "net.onnx").read_bytes() == b"an earlier one"
    config.export.file_format = "AIR"
    with pytest.raises(UserError, match=r"is MINDIR, ONNX or, on an Ascend, AIR"):
        export.main(config)


class SmallTwo(ms.nn.Cell):
    """A network of two inputs, which is no classifier of clips."""

    def construct(self, one, other):
        return one + other


def test_what_cannot_be_predicted_from_is_told_and_leaves_earlier_predictions(config, kinetics, tmp_path):
    """Another network's file, the label map of other classes, clips that cannot be made."""
    config.infer.image_path = str(kinetics / "test")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/predictions.jsonl").write_text("earlier\n")
    zeros = np.zeros((2, 3), np.float32)
    for file_format in ("MINDIR", "ONNX"):
        path, _ = exporting.export(SmallTwo(), [zeros, zeros], tmp_path / "two", file_format)
        config.infer.pretrained_model = str(path)
        with pytest.raises(UserError, match=r"two\.\w+ does not classify clips: "):
            infer.main(config)
    config.infer.pretrained_model = config.eval.pretrained_model
    datasets.write_label_map(config.eval.pretrained_model, {"a": 0, "b": 1})
    with pytest.raises(UserError, match=r"the label map of .* has 2 classes, the network 4"):
        infer.main(config)
    datasets.write_label_map(config.eval.pretrained_model, None)
    config.eval.num_crops = 2
    with pytest.raises(UserError, match=r"eval\.num_crops must be 1, 3 or 10, not 2"):
        infer.main(config)
    assert (tmp_path / "out/predictions.jsonl").read_text() == "earlier\n"


def test_a_video_may_have_the_longest_name_there_is(config, kinetics, tmp_path):
    path = tmp_path / f"{'長' * 83}.mp4"
    path.write_bytes(sorted((kinetics / "test").iterdir())[0].read_bytes())
    config.infer.image_path, config.infer.render = str(path), "gif"
    infer.main(config)
    (entry,) = predictions(config)
    assert entry["video"] == str(path) and (tmp_path / "out" / entry["picture"]).stat().st_size > 500


def test_class_names_without_a_label_map(tmp_path):
    assert infer.class_names(tmp_path / "a.ckpt", 400)[399] == "zumba"
    assert infer.class_names(tmp_path / "a.ckpt", 2) == ["class 0", "class 1"]
