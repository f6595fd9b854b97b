"""train, eval, infer, export and preprocessing from end to end on real encoded videos of a tiny data set."""

import ast
import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from itertools import chain

import eval as evaluate
import export
import infer
import mindspore as ms
import numpy as np
import pytest
import train
import yaml
from conftest import MODEL, settings
from PIL import Image, ImageSequence

from shared_utils import checkpoint, exporting
from shared_utils import config as configuration
from shared_utils.config import UserError
from shared_utils.video import decode
from src import dataset_preprocess
from src.dataset import ClipReader
from src.network import ARN


def write_yaml(path, data, folder, **sections):
    tree = settings(data, folder)
    for name, values in sections.items():
        tree[name] = {**tree[name], **values}
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture(scope="module")
def work(ucf101, tmp_path_factory):
    """A folder with tiny.yaml and what `python train.py` left of two epochs of two steps, each step kept."""
    folder = tmp_path_factory.mktemp("work")
    supervision = {"kind": "temporal_jigsaw", "temporal_blocks": 2, "permutations": 2}
    path = write_yaml(folder / "tiny.yaml", ucf101, folder, self_supervision=supervision)
    tree = yaml.safe_load(path.read_text())
    tree["train"]["save_checkpoint_steps"] = 1
    tree["data_loader"]["train"]["dataset"]["seq_mode"] = "discrete"
    path.write_text(yaml.safe_dump(tree))
    done = subprocess.run(
        [sys.executable, MODEL / "train.py", "-c", "tiny.yaml"],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (folder / "train.txt").write_text(done.stdout)
    return folder


def states(folder):
    return sorted(path.name for path in folder.glob("*.ckpt"))


def test_training_leaves_states_and_the_best_network(work):
    output = work / "output"
    assert states(output) == ["arn-1_1.ckpt", "arn-1_2.ckpt", "arn-2_1.ckpt", "arn-2_2.ckpt", "arn-best.ckpt"]
    assert not [path for path in output.iterdir() if path.name.startswith(".")]
    told = (work / "train.txt").read_text()
    assert [line.split(", ")[0] for line in told.splitlines() if ", loss is " in line] == [
        f"epoch: {epoch} step: {step}" for epoch in (1, 2) for step in (1, 2)
    ]
    assert told.count("validation 2-way 1-shot accuracy") == 2
    state, facts = checkpoint.load(output / "arn-2_2.ckpt")
    best, _ = checkpoint.load(output / "arn-best.ckpt")
    network = {parameter.name for parameter in ARN(2, 1, 16).get_parameters()}
    assert set(best) == network == set(facts["weights"])
    assert {
        "head.layer1.conv.weight",
        "head.fc2.bias",
        "moment1.head.fc2.bias",
        "moment2.relation.fc1.weight",
    } < set(state)
    for name in ("arn-2_2", "arn-best"):
        assert json.loads((output / f"{name}.labels.json").read_text()) == {
            "SlideRight": 0,
            "SlideUp": 1,
            "ZoomIn": 2,
        }


def test_a_resumed_run_ends_with_the_same_bits(work, execute, monkeypatch):
    """From the state in the middle of an epoch, beside a file that a killed run left half written."""
    numbers, clips = [], train.Episodes.clips
    monkeypatch.setattr(
        train.Episodes, "clips", lambda self, number: numbers.append(number) or clips(self, number)
    )
    again = work / "resumed"
    again.mkdir()
    for suffix in (".ckpt", ".labels.json"):
        shutil.copy(work / "output" / f"arn-1_1{suffix}", again)
    (again / "arn-1_2.ckpt").write_bytes((work / "output" / "arn-1_2.ckpt").read_bytes()[:1000])
    status, told, error = execute(
        train, "-c", work / "tiny.yaml", f"--train.ckpt_path={again}", "--train.resume=auto"
    )
    assert status == 0, error
    assert "1 of 4 steps done" in told
    assert sorted(numbers)[:3] == [1, 2, 3]  # the first step's episode is behind it
    first, facts = checkpoint.load(work / "output" / "arn-2_2.ckpt")
    second, others = checkpoint.load(again / "arn-2_2.ckpt")
    assert set(first) == set(second)
    assert not [name for name in first if not np.array_equal(first[name].asnumpy(), second[name].asnumpy())]
    assert (
        (facts["best"], facts["global_step"]) == (others["best"], others["global_step"]) == (facts["best"], 4)
    )
    before, _ = checkpoint.load(work / "output" / "arn-2_1.ckpt")
    assert [name for name in first if not np.array_equal(first[name].asnumpy(), before[name].asnumpy())]
    status, told, _ = execute(
        train, "-c", work / "tiny.yaml", f"--train.ckpt_path={again}", "--train.resume=auto"
    )
    assert status == 0
    assert "nothing to train: all 2 epochs are done" in told


def test_eval_tells_accuracy_and_interval(work, execute):
    results = []
    for _ in range(2):
        status, told, error = execute(evaluate, "-c", work / "tiny.yaml")
        assert status == 0, error
        results.append(json.loads((work / "eval" / "results.json").read_text()))
    assert results[0] == results[1]
    assert ast.literal_eval(told.splitlines()[-1]) == {
        f"2_way_{shot}_shot_Accuracy": round(results[0]["results"][f"2_way_{shot}_shot"]["accuracy"], 4)
        for shot in (1, 2)
    }
    assert "18 videos of 3 classes, 0 of them bad" in told
    assert "note:" not in told
    facts = results[0]
    mean, half = (facts["results"]["2_way_2_shot"][name] for name in ("accuracy", "interval95"))
    assert half >= 0 and f"2-way 2-shot: {100 * mean:.2f} +- {100 * half:.2f} % over 20 episodes" in told
    assert (
        facts["videos"],
        facts["classes"],
        facts["episodes"],
        facts["split"],
        facts["seed"],
        facts["query"],
    ) == (18, 3, 20, "test", 1, 2)
    status, _, error = execute(evaluate, "-c", work / "tiny.yaml", "--eval.shots=[]")
    assert (status, error) == (1, "error: eval.shots names no number of shots\n")
    best = (work / "output" / "arn-best.ckpt").read_bytes()
    assert facts["checkpoint_sha256"] == hashlib.sha256(best).hexdigest()
    assert {path.name for path in (work / "eval").iterdir()} >= {
        "2_way_1_shot_per_class.csv",
        "2_way_2_shot_confusion.png",
    }
    status, told, _ = execute(evaluate, "-c", work / "tiny.yaml", "--data_loader.eval.dataset.split=train")
    assert status == 0
    assert "note: 3 of these 3 classes were trained on" in told
    shutil.copy(work / "output" / "arn-best.ckpt", work / "bare.ckpt")
    bare = ["--eval.shots=[1]", f"--eval.pretrained_model={work}/bare.ckpt"]
    status, told, _ = execute(evaluate, "-c", work / "tiny.yaml", *bare)
    assert status == 0 and "note: no label map beside the checkpoint tells" in told


def test_a_bad_query_is_wrong_in_the_accuracy_of_its_class_too(work, ucf101, execute, tmp_path):
    data = shutil.copytree(ucf101, tmp_path / "data")
    next((data / "ZoomOut").iterdir()).write_bytes(b"no video")
    flags = [f"--data_loader.eval.dataset.path={data}", f"--eval.output_dir={tmp_path}", "--eval.shots=[1]"]
    status, _, error = execute(evaluate, "-c", work / "tiny.yaml", *flags)
    assert status == 0, error
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["bad_videos"] == 1 and found["operations"][1] == {"type": "VideoToTensor"}
    with open(tmp_path / "2_way_1_shot_per_class.csv", newline="") as file:
        rows = [(int(row["count"]), float(row["accuracy"])) for row in csv.DictReader(file)]
    assert sum(count for count, _ in rows) == found["episodes"] * 2 * found["query"]
    right = sum(round(count * accuracy) for count, accuracy in rows)
    assert right / (20 * 2 * 2) == pytest.approx(found["results"]["2_way_1_shot"]["accuracy"])


def frames_of(path):
    """How many frames of 1/8 s a GIF shows; equal ones in succession are stored as one that lasts longer."""
    with Image.open(path) as gif:
        return sum(round(frame.info["duration"] / 125) for frame in ImageSequence.Iterator(gif))


def test_infer_draws_an_episode(work, execute):
    status, told, error = execute(infer, "-c", work / "tiny.yaml", "--infer.episode=3")
    assert status == 0, error
    answer = json.loads((work / "infer" / "predictions.json").read_text())
    assert len(answer["support"]) == len(answer["predictions"]) == 2
    for entry in answer["predictions"]:
        assert entry["predicted"] in answer["support"]
        assert entry["truth"] in answer["support"]
        assert entry["score"] == max(entry["scores"].values())
        assert f"/{entry['truth']}/" in entry["query"]
        assert entry["query"] not in chain(*answer["support"].values())
        assert frames_of(work / "infer" / entry["gif"]) == 8
    assert "of 2 right" in told


def test_infer_reads_a_folder(work, ucf101, execute, tmp_path):
    """Three classes although the network was trained 2-way, unequal shots, a bad query and a bad support."""
    for name, count in (("ZoomOut", 1), ("SlideLeft", 3), ("BlinkSlow", 2)):
        (tmp_path / "support" / name).mkdir(parents=True)
        for path in sorted((ucf101 / name).iterdir())[:count]:
            shutil.copy(path, tmp_path / "support" / name)
    (tmp_path / "support" / "SlideLeft" / "bad.mp4").write_bytes(b"")
    (tmp_path / "query").mkdir()
    shutil.copy(ucf101 / "ZoomOut" / "v_ZoomOut_g03_c01.avi", tmp_path / "query" / "what is it.avi")
    (tmp_path / "query" / "bad.avi").write_bytes(b"no video")
    words = ["-c", work / "tiny.yaml", f"--infer.image_path={tmp_path}", f"--infer.output_dir={tmp_path}/out"]
    (tmp_path / "support" / "SlideUp").mkdir()
    status, told, error = execute(infer, *words)
    assert status == 1 and error == f"error: no videos in {tmp_path}/support/SlideUp\n"
    (tmp_path / "support" / "SlideUp").rmdir()
    status, told, error = execute(infer, *words)
    assert status == 0, error
    bad, good = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]
    assert "cannot decode" in bad["error"]
    assert (good["truth"], sorted(good["scores"])) == (None, ["BlinkSlow", "SlideLeft", "ZoomOut"])
    assert frames_of(tmp_path / "out" / good["gif"]) == 8
    assert "right" not in told
    assert "2 queries, 1 of them bad; predictions.json and a GIF for each other one in" in told
    config = configuration.load(["-c", str(work / "tiny.yaml")], MODEL / "default_config.yaml")
    # A class is the mean of the descriptors of its readable support.
    network, reader = ARN(3, 1, 16).set_train(False), ClipReader(config.data_loader.eval)
    checkpoint.load_weights(network, work / "output" / "arn-best.ckpt")
    paths = sorted((tmp_path / "support" / "SlideLeft").iterdir())
    descriptors = network.descriptor(ms.Tensor(np.stack([reader.clip(path) for path in paths[1:]]))).asnumpy()
    mean = infer.prototype(network, reader, "SlideLeft", paths)
    np.testing.assert_allclose(mean, descriptors.mean(0), atol=1e-5)
    assert np.abs(mean - descriptors).max() > 1e-3
    (tmp_path / "query" / "bad.avi").unlink()
    (tmp_path / "query" / "ZoomOut").mkdir()
    (tmp_path / "query" / "what is it.avi").rename(tmp_path / "query" / "ZoomOut" / "a.avi")
    status, told, error = execute(infer, *words)
    assert status == 0, error
    assert " of 1 right" in told
    (known,) = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]
    assert (known["truth"], known["scores"]) == ("ZoomOut", good["scores"])
    shutil.copy(tmp_path / "query" / "ZoomOut" / "a.avi", tmp_path / "query")
    status, told, error = execute(infer, *words)
    assert " of 1 right" in told and told.splitlines()[-1].startswith("2 queries, ")
    (tmp_path / "query" / "a.avi").write_bytes(b"no video")
    status, told, error = execute(infer, *words)
    assert f" {int(known['predicted'] == 'ZoomOut')} of 1 right, 1 of them bad" in told
    (tmp_path / "query" / "a.avi").unlink()
    (tmp_path / "query" / "ZoomOut" / "a.avi").write_bytes(b"no video")
    status, _, error = execute(infer, *words)
    assert status == 1 and error.endswith("error: none of the 1 queries can be decoded\n")


@pytest.mark.parametrize("file_format", ["MINDIR", "ONNX"])
def test_export_is_reloaded_and_equal(work, execute, tmp_path, file_format):
    status, told, error = execute(
        export,
        "-c",
        work / "tiny.yaml",
        f"--export.file_format={file_format}",
        f"--export.file_name={tmp_path}/arn",
        "--model.way=3",
        "--model.shot=2",
        "--export.query=2",
    )
    assert status == 0, error
    assert "reloaded, largest difference" in told and "3-way 2-shot, 2 queries" in told
    assert [path.name for path in tmp_path.iterdir()] == [f"arn.{file_format.lower()}"]
    network = ARN(3, 2, 16).set_train(False)
    checkpoint.load_weights(network, work / "output" / "arn-best.ckpt")
    clips = [
        np.random.default_rng(side).normal(size=(count, 3, 8, 16, 16)).astype(np.float32) * 0.5
        for side, count in enumerate((6, 2))
    ]
    answer = exporting.load_exported(tmp_path / f"arn.{file_format.lower()}")[0](*clips)
    np.testing.assert_allclose(answer, network(*map(ms.Tensor, clips)).asnumpy(), atol=1e-5)


@pytest.mark.parametrize("wrong, told", [(0.5, "differs from the network by"), (float("nan"), "by nan")])
def test_a_wrong_export_leaves_no_file(work, execute, tmp_path, monkeypatch, wrong, told):
    monkeypatch.setattr(
        exporting, "load_exported", lambda path: (lambda *clips: np.full((5, 2), wrong), None)
    )
    (tmp_path / "arn.onnx").write_bytes(b"an earlier one")
    status, _, error = execute(
        export, "-c", work / "tiny.yaml", "--export.file_format=ONNX", f"--export.file_name={tmp_path}/arn"
    )
    assert status == 1
    assert told in error
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [
        ("arn.onnx", b"an earlier one")
    ]


def hashes(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def frames(ucf101, tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames") / "UCF101_frames"
    before = hashes(ucf101)
    status = dataset_preprocess.main(
        [
            "--source_data_dir",
            str(ucf101),
            "--output_dir",
            str(folder),
            "--size",
            "16",
            "16",
            "--workers",
            "2",
        ]
    )
    assert status == 0
    assert hashes(ucf101) == before
    return folder


def test_preprocessing_keeps_every_frame(ucf101, frames):
    videos = sorted(ucf101.glob("*/*.avi"))
    folders = sorted(path for path in frames.glob("*/*") if path.is_dir())
    assert [path.relative_to(frames) for path in folders] == [
        path.relative_to(ucf101).with_suffix("") for path in videos
    ]
    for video, folder in list(zip(videos, folders))[::7]:
        kept = decode(folder, np.arange)
        whole = dataset_preprocess.resize(decode(video, np.arange), None, [16, 16])
        assert kept.shape == whole.shape
        kept, whole = (clip.mean(-1) for clip in (kept, whole))  # JPEG keeps light finer than colour
        assert np.abs(kept - whole).mean() < 2
        assert np.abs(kept[1:] - whole[:-1]).mean() > np.abs(kept - whole).mean() + 1  # no neighbours
    assert (frames / "ucfTrainTestlist" / "classInd.txt").is_file()


def test_preprocessing_goes_on_and_tells_bad_videos(ucf101, tmp_path, capsys):
    data, output = tmp_path / "data", tmp_path / "frames"
    (data / "ZoomIn").mkdir(parents=True)
    for path in sorted((ucf101 / "ZoomIn").iterdir())[:3]:
        shutil.copy(path, data / "ZoomIn")
    bad = data / "ZoomIn" / "v_ZoomIn_g09_c01.avi"
    bad.write_bytes(b"no video")
    before, words = (
        hashes(data),
        ["--source_data_dir", str(data), "--output_dir", str(output), "--size", "8", "8"],
    )
    assert dataset_preprocess.main(words) == 1
    told = capsys.readouterr().out
    assert f"bad video {bad}: " in told
    assert "3 videos written" in told
    folders = sorted((output / "ZoomIn").iterdir())
    whole = {
        name: digest for name, digest in hashes(output).items() if not name.split("/")[1].startswith(".")
    }
    shutil.rmtree(folders[-1])
    partial = folders[-1].with_name(f".{folders[-1].name}.partial")
    partial.mkdir()  # what a killed run leaves, of a longer video that stood there
    (partial / "000999.jpg").touch()
    kept = os.stat(folders[-2]).st_mtime_ns
    assert dataset_preprocess.main(words) == 1
    assert "1 videos written" in capsys.readouterr().out
    assert os.stat(folders[-2]).st_mtime_ns == kept
    again = {
        name: digest for name, digest in hashes(output).items() if not name.split("/")[1].startswith(".")
    }
    assert again == whole
    with pytest.raises(UserError, match=r"has frames of \[8, 8\], not \[9, 8\]"):
        dataset_preprocess.main([*words[:-2], "9", "8"])
    assert hashes(data) == before
    shutil.copytree(folders[0], data / "ZoomIn" / folders[0].name)  # frames beside their video are fine
    bad.with_suffix(".mp4").touch()
    with pytest.raises(UserError, match=r"g09_c01\.avi and .*g09_c01\.mp4 would have the same folder"):
        dataset_preprocess.main(words)


def test_training_reads_the_frames_folders(work, frames, ucf101, execute, tmp_path):
    flags = [f"--data_loader.{side}.dataset.path={frames}" for side in ("train", "eval")]
    flags += [
        f"--train.ckpt_path={tmp_path}",
        "--self_supervision.kind=none",
        "--train.epochs=1",
        "--train.eval_epochs=0",
    ]
    status, told, error = execute(train, "-c", work / "tiny.yaml", *flags)
    assert status == 0, error
    assert "epoch: 1 step: 2, loss is" in told
    assert states(tmp_path) == ["arn-1_1.ckpt", "arn-1_2.ckpt"]
