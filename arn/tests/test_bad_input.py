"""Mistakes: each ends a program with one line that begins with error:, status 1 and no traceback."""

import json
import os
import re
import shutil
import subprocess
import sys

import convert
import eval as evaluate
import export
import infer
import numpy as np
import pytest
import train
import yaml
from conftest import MODEL, settings

from shared_utils import checkpoint
from src import dataset_preprocess
from src.network import ARN


@pytest.fixture(scope="module")
def work(ucf101, tmp_path_factory):
    """A folder with tiny.yaml, a checkpoint of its network and other things that are wrong."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(settings(ucf101, folder)))
    checkpoint.save(
        folder / "output" / "arn-best.ckpt",
        {parameter.name: parameter for parameter in ARN(2, 1, 16).get_parameters()},
    )
    (folder / "broken.yaml").write_text("model: {way: 2\ntrain: [")
    (folder / "list.yaml").write_text("- 1\n- 2\n")
    (folder / "unknown.yaml").write_text("base: tiny.yaml\nmodel:\n  ways: 3\n")
    (folder / "file").write_text("not a folder")
    (folder / "empty" / "SlideUp").mkdir(parents=True)
    (folder / "empty" / "notes.txt").write_text("no video")
    (folder / "few").mkdir()
    for name, count in (("SlideUp", 6), ("ZoomIn", 1)):
        (folder / "few" / name).mkdir()
        for path in sorted((ucf101 / name).iterdir())[:count]:
            shutil.copy(path, folder / "few" / name)
    (folder / "rotten" / "query").mkdir(parents=True)
    (folder / "rotten" / "support" / "SlideUp").mkdir(parents=True)
    for path in ("query/a.avi", "support/SlideUp/a.avi"):
        (folder / "rotten" / path).write_bytes(b"no video")
    return folder


DATA = [
    f"--data_loader.{side}.dataset.{key}" for side in ("train", "eval") for key in ("path", "class_split")
]


def data(folder):
    """Flags for a data set without a split of classes."""
    return [f"{DATA[0]}={folder}", f"{DATA[1]}=", f"{DATA[2]}={folder}", f"{DATA[3]}="]


CASES = {  # name: program, words, parts that the line holds; {} is the folder of `work`
    "no folder": (train, data("{}/nowhere"), "no data set|{}/nowhere"),
    "no folder to evaluate": (evaluate, data("{}/nowhere"), "no data set|{}/nowhere"),
    "a file for a folder": (train, data("{}/file"), "no data set|{}/file"),
    "no videos": (train, data("{}/empty"), "no videos in {}/empty"),
    "no videos to evaluate": (evaluate, data("{}/empty"), "no videos in {}/empty"),
    "few classes": (train, ["--model.way=4"], "4-way episodes need 4 classes, there are 3"),
    "few classes to evaluate": (evaluate, ["--model.way=4"], "4-way episodes need 4 classes, there are 3"),
    "few classes to validate": (train, ["--model.way=3"], "3-way episodes need 3 classes, there are 2"),
    "few classes to draw": (infer, ["--model.way=4"], "4-way episodes need 4 classes, there are 3"),
    "few videos": (train, data("{}/few"), "class ZoomIn has 1 videos, fewer than 1 for support and 1"),
    "few videos to evaluate": (
        evaluate,
        ["--eval.query=6"],
        "class SlideLeft has 6 videos, fewer than 1 for support and 6",
    ),
    "few groups": (train, ["--model.shot=5"], "too few groups"),
    "no shot": (train, ["--model.shot=0"], "model.shot must be at least 1"),
    "odd channels": (train, ["--model.channels=10"], "model.channels must be a multiple of 16"),
    "no channels": (
        train,
        ["--model.channels=0", "--self_supervision.kind=rotation"],
        "model.channels must be a multiple of 16",
    ),
    "no episodes": (
        train,
        ["--data_loader.train.dataset.episodes=0"],
        "nothing to train in 2 epochs of 0 steps",
    ),
    "no sigma": (train, ["--model.sigma=0"], "model.sigma must be above 0, not 0"),
    "clips of no shape to infer": (
        infer,
        ["--infer.episode=0", "--data_loader.eval.map.operations=[]"],
        "map.operations make clips (8, 24, 32, 3), not (3, T, H, W)",
    ),
    "clips of no shape to validate": (
        train,
        ["--data_loader.eval.map.operations=[]"],
        "map.operations make clips",
    ),
    "no episodes to evaluate": (evaluate, ["--eval.episodes=0"], "eval.episodes must be at least 1"),
    "no episodes to validate": (train, ["--train.eval_episodes=0"], "train.eval_episodes must be at least 1"),
    "no shots to evaluate": (evaluate, ["--eval.shots=[1,0]"], "eval.shots must be at least 1, not 0"),
    "short clips": (evaluate, ["--data_loader.eval.dataset.seq=3"], "seq must be at least 4, not 3"),
    "short clips to infer": (
        infer,
        ["--infer.image_path={}/rotten", "--data_loader.eval.dataset.seq=3"],
        "seq must be at least 4, not 3",
    ),
    "no batch": (evaluate, ["--data_loader.eval.dataset.batch_size=0"], "batch_size must be at least 1"),
    "no frames": (train, ["--data_loader.train.dataset.seq=0"], "seq must be at least 4"),
    "few frames": (train, ["--data_loader.train.dataset.seq=3"], "seq must be at least 4"),
    "no such sampling": (train, ["--data_loader.train.dataset.seq_mode=all"], "seq_mode must be one of"),
    "no interval": (evaluate, ["--data_loader.eval.dataset.frame_interval=0"], "frame_interval at least 1"),
    "no way to export": (export, ["--model.way=0"], "model.way and model.shot must be at least 1"),
    "no such split": (train, [f"{DATA[1]}=ucf"], "class_split ucf is no folder and none of hmdb51_arn, "),
    "another split": (train, [f"{DATA[1]}=hmdb51_arn"], "none of the 31 classes|brush_hair"),
    "no such supervision": (train, ["--self_supervision.kind=flip"], "kind must be none or one of rotation"),
    "blocks that do not fit": (
        train,
        ["--self_supervision.kind=temporal_jigsaw"],
        "cannot cut 2 steps into 4",
    ),
    "no checkpoint": (evaluate, ["--eval.pretrained_model={}/no.ckpt"], "no checkpoint at {}/no.ckpt"),
    "no checkpoint to infer": (infer, ["--infer.pretrained_model={}/no.ckpt"], "no checkpoint at {}/no.ckpt"),
    "no checkpoint to export": (
        export,
        ["--export.pretrained_model={}/no.ckpt"],
        "no checkpoint at {}/no.ckpt",
    ),
    "a text for a checkpoint": (
        evaluate,
        ["--eval.pretrained_model={}/file"],
        "checkpoint {}/file cannot be read",
    ),
    "another network": (
        evaluate,
        ["--model.temporal_attention=False"],
        "unexpected descriptor.temporal.layer1.conv.bias",
    ),
    "another width": (
        evaluate,
        ["--model.channels=32"],
        "descriptor.encoder.0.conv.weight is [16, 3, 3, 3, 3] instead of [32, 3, 3, 3, 3]",
    ),
    "another start": (
        train,
        ["--train.pretrained_model={}/output/arn-best.ckpt", "--model.channels=32"],
        "relation.fc1.weight is [8, 64] instead of [8, 256]",
    ),
    "no configuration": (train, ["-c", "{}/no.yaml"], "cannot read the configuration {}/no.yaml"),
    "broken YAML": (train, ["-c", "{}/broken.yaml"], "{}/broken.yaml does not parse as YAML"),
    "a YAML list": (train, ["-c", "{}/list.yaml"], "holds no configuration"),
    "unknown key": (
        train,
        ["--model.ways=3"],
        "unknown key model.ways in the command line; the nearest known key is model.way",
    ),
    "unknown key in a file": (train, ["-c", "{}/unknown.yaml"], "unknown key model.ways in {}/unknown.yaml"),
    "wrong type": (
        train,
        ["--model.way=five"],
        "model.way in the command line must be a whole number, not text",
    ),
    "a word too many": (train, ["again"], "argument 'again' is not understood"),
    "no GPU": (evaluate, ["--context.device_target=GPU"], "no GPU to run on: "),
    "no such device": (
        train,
        ["--context.device_target=TPU"],
        "no TPU to run on: The argument 'device_target' must be one of ['CPU', 'GPU', 'Ascend']",
    ),
    "no output": (
        train,
        ["--train.ckpt_path={}/file/output"],
        "cannot make the output folder {}/file/output",
    ),
    "no output to evaluate": (
        evaluate,
        ["--eval.output_dir={}/file/x"],
        "cannot make the output folder {}/file/x",
    ),
    "no output to infer": (
        infer,
        ["--infer.output_dir={}/file/x"],
        "cannot make the output folder {}/file/x",
    ),
    "no output to export": (
        export,
        ["--export.file_name={}/file/x"],
        "cannot make the output folder {}/file",
    ),
    "no such format": (export, ["--export.file_format=TFLITE"], "file_format is MINDIR, ONNX or"),
    "AIR without Ascend": (export, ["--export.file_format=AIR"], "on an Ascend, AIR"),
    "odd input": (export, ["--export.input_shape=[16, 128, 128]"], "input_shape is a clip's [3, T, H, W]"),
    "small input": (export, ["--export.input_shape=[3, 2, 8, 8]"], "input_shape is a clip's [3, T, H, W]"),
    "no query to export": (export, ["--export.query=0"], "export.query must be at least 1"),
    "no support": (infer, ["--infer.image_path={}/few"], "wants support/<class>/*|{}/few has no support"),
    "rotten support": (
        infer,
        ["--infer.image_path={}/rotten"],
        "class SlideUp has no readable support video",
    ),
    "no such state": (train, ["--train.resume={}/no.ckpt"], "no checkpoint at {}/no.ckpt"),
    "weights for a state": (
        train,
        ["--train.resume={}/output/arn-best.ckpt"],
        "{}/output/arn-best.ckpt is no state of this",
    ),
    "no learning rate": (train, ["--learning_rate.lr_scheduler=often"], "lr_scheduler must be one of"),
    "no optimizer": (train, ["--optimizer.type=AdamW"], "optimizer.type must be SGD, Momentum or Adam"),
    "normal before order": (
        train,
        ["--data_loader.train.map.operations=[{{type: VideoNormalize, mean: [0], std: [1]}}]"],
        "VideoNormalize wants",
    ),
    "no such transform": (
        train,
        ["--data_loader.train.map.operations=[{{type: VideoFlip}}]"],
        "unknown transform VideoFlip",
    ),
}


def one_line(status, error):
    """The line told; `bad video` lines and those of a decoder's own may come before it."""
    lines = [line for line in error.splitlines() if not line.startswith(("bad video", "[", "nothing"))]
    assert status == 1, error
    assert len(lines) == 1, error
    assert lines[0].startswith("error: ")
    assert "Traceback" not in error
    return lines[0]


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_told_in_one_line(case, work, execute):
    program, words, told = CASES[case]
    words = [word.format(work) for word in words]
    if "-c" not in words:
        words = ["-c", work / "tiny.yaml", *words]
    status, out, error = execute(program, *words)
    line = one_line(status, error)
    assert "loss is" not in out  # before the first step, not after an epoch
    assert all(part in line for part in told.format(work).split("|")), line


def test_a_label_map_that_differs_stops_the_resumption(work, execute, tmp_path):
    words = [
        "-c",
        work / "tiny.yaml",
        f"--train.ckpt_path={tmp_path}",
        "--train.epochs=1",
        "--train.eval_epochs=0",
    ]
    assert execute(train, *words)[0] == 0
    path = tmp_path / "arn-1_2.labels.json"
    labels = json.loads(path.read_text())
    path.write_text(
        json.dumps({name.replace("SlideUp", "SlideAway"): label for name, label in labels.items()})
    )
    before = path.with_suffix("").with_suffix(".ckpt").read_bytes()
    words += ["--train.resume=auto", "--train.epochs=2"]
    assert "class SlideAway is 1 there and missing here" in one_line(*execute(train, *words)[::2])
    path.unlink()
    line = one_line(*execute(train, *words)[::2])
    assert re.search(r"label map of .*arn-1_2.ckpt differs .*: class \w+ is missing there and 0 here", line)
    path.write_text(json.dumps(labels))
    line = one_line(*execute(train, *words, "--data_loader.train.dataset.episodes=3")[::2])
    assert re.search("arn-1_2.ckpt.* epochs .*2.* 3", line)
    assert path.with_suffix("").with_suffix(".ckpt").read_bytes() == before


def by_hand(program, *words, **keywords):
    """(status, stderr) of a program with a command line of its own, as its last lines run it."""
    try:
        status = program.main([str(word) for word in words]) or 0
    except program.UserError as error:
        return 1, f"error: {error}"
    return status, ""


def test_convert_tells_what_is_missing(work, tmp_path):
    source, dest = tmp_path / "zjut.ckpt", tmp_path / "arn.ckpt"
    network = ARN(temporal_attention=False)
    shapes = {parameter.name: parameter for parameter in network.get_parameters()}
    tensors = {
        key: shapes[ours]
        for key, ours in convert.zjut_keys().items()
        if not (".conv" in ours and ours.endswith("bias"))
    }
    checkpoint.save(source, tensors)
    (tmp_path / "arn.labels.json").write_text('{"of what was there": 0}')
    assert by_hand(convert, source, dest, "--layout", "zjut") == (0, "")
    assert not (tmp_path / "arn.labels.json").exists()
    converted, facts = checkpoint.load(dest)
    assert set(converted) == set(facts["weights"]) == set(shapes)
    for key, parameter in tensors.items():
        assert np.array_equal(converted[convert.zjut_keys()[key]].asnumpy(), parameter.asnumpy())
    for name, ours in convert.zjut_keys().items():
        if ours in ("descriptor.encoder.0.norm.bn2d.beta", "relation.layer1.norm.beta"):
            checkpoint.save(source, {key: tensor for key, tensor in tensors.items() if key != name})
            told = one_line(*by_hand(convert, source, dest, "--layout", "zjut"))
            assert f"not this layout, 1 tensors differ: missing {name}" in told
    tensors["head.extra"] = tensors.pop("head.relation_network.fc2.weight")
    checkpoint.save(source, tensors)
    told = one_line(*by_hand(convert, source, dest, "--layout", "zjut"))
    assert "2 tensors differ: unexpected head.extra; missing head.relation_network.fc2.weight" in told
    assert "no file at" in one_line(*by_hand(convert, tmp_path / "no.pth", dest, "--layout", "authors"))
    assert "cannot be read" in one_line(*by_hand(convert, work / "file", dest, "--layout", "zjut"))
    source = work / "output" / "arn-best.ckpt"
    assert "not this layout" in one_line(*by_hand(convert, source, dest, "--layout", "zjut"))


def test_preprocessing_tells_mistakes(work):
    def preprocess(source, output, *words):
        return one_line(
            *by_hand(dataset_preprocess, "--source_data_dir", source, "--output_dir", output, *words)
        )

    assert "no data set" in preprocess(work / "nowhere", work / "out")
    assert "no videos in" in preprocess(work / "empty", work / "out")
    assert "cannot make the output folder" in preprocess(work / "few", work / "file" / "out")
    assert "few has videos: frames go to a folder of their own" in preprocess(work / "few", work / "few")
    assert "--size is 1 to 4096" in preprocess(work / "few", work / "out", "--workers", "0")


@pytest.mark.parametrize("program", ["train", "convert", "src/dataset_preprocess"])
def test_the_programs_themselves_end_with_status_1(program, work, tmp_path):
    words = {
        "train": ["--model.ways=1"],
        "convert": [work / "no.pth", tmp_path / "a.ckpt", "--layout", "authors"],
        "src/dataset_preprocess": ["--source_data_dir", work / "no", "--output_dir", tmp_path / "out"],
    }[program]
    done = subprocess.run(
        [sys.executable, MODEL / f"{program}.py", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    one_line(done.returncode, done.stderr)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "script, words",
    [
        ("run_standalone_train.sh", 3),
        ("run_standalone_eval.sh", 5),
        ("run_distribute_train.sh", 1),
        ("run_distribute_train.sh", 5),
        ("run_export.sh", 4),
        ("run_infer.sh", 5),
    ],
)
def test_scripts_tell_their_usage(script, words, tmp_path):
    done = subprocess.run(
        ["bash", MODEL / "scripts" / script, *["1"] * words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": "false"},
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("usage: bash ")
