"""config: what a default, a chain of YAML files and a command line make of each other, and refuse."""

import subprocess
import sys
from pathlib import Path

import pytest

from shared_utils.config import UserError, load

DEFAULT = """
seed: 1
context: {mode: 0, device_target: CPU, device_id: 0, save_graphs: False}
model: {type: R2Plus1d18, stage_channels: [64, 128, 256, 512], stem: 45, dropout: 0.0}
learning_rate: {lr: 0.01, lr_epochs: [50], warmup_epochs: 0}
optimizer: {type: SGD, weight_decay: 0.0}
train: {ckpt_path: ./output/, epochs: 100, resume: "", note: null}
export: {file_name: net, file_format: MINDIR}
data_loader:
  train:
    dataset: {path: ./data, seq: 16, shuffle: True}
    map: {operations: [{type: VideoResize, size: [128, 128]}]}
"""
PUBLISHED = """
# model architecture: r2plus1d18
context:
    mode: 0 #0--Graph Mode; 1--Pynative Mode
    device_target: "GPU"
    device_id: 2
model:
    type: R2Plus1d18
    stage_channels: [64, 128]
learning_rate:
    lr: 1e-3
    lr_epochs: [4, 8, 16]
export:
    file_formate: "ONNX"
data_loader:
    train:
        dataset:
              path: "/data/kinetics-dataset"
              shuffle: False
        map:
            operations:
                - type: VideoRescale
                  shift: 0.0
                - type: VideoResize
                  size: [128, 171]
                - type: VideoToTensor
"""


@pytest.fixture
def configure(tmp_path):
    """A function of the command line and of YAML files by name, the first of which is chosen by -c."""
    default = tmp_path / "default_config.yaml"
    default.write_text(DEFAULT)

    def run(*argv, **files):
        for name, text in files.items():
            (tmp_path / f"{name}.yaml").write_text(text)
        chosen = ["-c", str(tmp_path / f"{next(iter(files))}.yaml")] if files else []
        return load([*chosen, *argv], default)

    return run


def test_a_published_file_loads_unchanged(configure):
    config = configure(published=PUBLISHED)
    assert (
        config.context.device_target == "GPU" and config.context.device_id == 2 and config.context.mode == 0
    )
    assert config.model.stage_channels == [64, 128] and config.learning_rate.lr_epochs == [4, 8, 16]
    assert config.learning_rate.lr == 0.001 and config.export.file_format == "ONNX"
    section = config.data_loader.train
    assert section.dataset.to_dict() == {"path": "/data/kinetics-dataset", "seq": 16, "shuffle": False}
    operations = [dict(operation) for operation in section.map.operations]
    assert [operation.pop("type") for operation in operations] == [
        "VideoRescale",
        "VideoResize",
        "VideoToTensor",
    ]
    assert operations == [{"shift": 0.0}, {"size": [128, 171]}, {}]


def test_the_command_line_beats_the_file_which_beats_its_base(configure):
    config = configure(
        "--train.epochs=7",
        young="base: old.yaml\ntrain: {epochs: 5}\nseed: 5",
        old="base: default_config.yaml\ntrain: {epochs: 4, ckpt_path: old}\nseed: 4\nmodel: {stem: 4}",
    )
    assert (config.train.epochs, config.seed, config.model.stem, config.train.ckpt_path) == (7, 5, 4, "old")
    assert config.context.device_target == "CPU"


def test_a_section_on_the_command_line_changes_the_keys_that_it_names(configure):
    config = configure("--train={epochs: 3, ckpt_path: here}")
    assert (config.train.epochs, config.train.ckpt_path, config.train.resume) == (3, "here", "")


def test_a_base_is_found_from_the_file_that_names_it(configure, tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "base.yaml").write_text("seed: 9")
    (tmp_path / "deep" / "mine.yaml").write_text("base: base.yaml")
    monkeypatch.chdir(tmp_path)
    assert configure("--config_path=deep/mine.yaml").seed == 9
    assert configure("--config_path", "deep/mine.yaml").seed == 9


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("--learning_rate.lr=1e-3", 0.001),
        ("--learning_rate.lr=2E3", 2000.0),
        ("--learning_rate.lr=1", 1.0),
        ("--learning_rate.lr=+0.5", 0.5),
        ("--data_loader.train.dataset.shuffle=False", False),
        ("--learning_rate.lr_epochs=[1, 2]", [1, 2]),
        ("--model.stage_channels=[]", []),
        ("--data_loader.train.map.operations=[{type: A, size: [1, 2]}]", [{"type": "A", "size": [1, 2]}]),
        ("--export.file_formate=ONNX", "ONNX"),
        # Text stays as it was typed, whatever YAML would make of it.
        ("--train.ckpt_path=2024", "2024"),
        ("--train.ckpt_path=~/run", str(Path.home() / "run")),
        ("--train.ckpt_path=007", "007"),
        ("--train.ckpt_path=no", "no"),
        ("--train.ckpt_path=a: b #c", "a: b #c"),
        ("--train.ckpt_path=[x", "[x"),
        ("--train.ckpt_path=a=b", "a=b"),
        ("--train.ckpt_path=", ""),
        ("--train.resume=2024-13-45", "2024-13-45"),
        ("--train.note=3", 3),
        ("--train.note=three", "three"),
        ("--train.note=[3]", [3]),
    ],
)
def test_values_of_the_command_line(configure, argument, value):
    key, _, text = argument[2:].partition("=")
    for argv in ([argument], [f"--{key}", text]):
        node = configure(*argv)
        for name in key.replace("formate", "format").split("."):
            node = node[name]
        assert node == value and type(node) is type(value)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--train.epoch=3"],
            r"unknown key train\.epoch in the command line; the nearest known key is train\.epochs",
        ),
        (["--base=a.yaml"], "unknown key base in the command line"),
        (["--seq=3"], r"unknown key seq .*nearest known key is data_loader\.train\.dataset\.seq"),
        (["--train.epochs.x=3"], r"unknown key train\.epochs\.x"),
        (
            ["--train.epochs=1.0"],
            r"train\.epochs in the command line must be a whole number, not a number \(1\.0\)",
        ),
        (["--train.epochs=True"], "must be a whole number, not true or false"),
        (["--train.epochs="], "must be a whole number, not text"),
        (["--learning_rate.lr=True"], "must be a number, not true or false"),
        (["--learning_rate.lr=fast"], r"must be a number, not text \('fast'\)"),
        (["--learning_rate.lr_epochs=8"], r"a list, each entry a whole number, not a whole number \(8\)"),
        (["--context.save_graphs=1"], "must be true or false, not a whole number"),
        (["--train=3"], "train in the command line must be a section"),
        (["--learning_rate.lr=1" + "0" * 400], "lr in the command line is too large$"),
        (["--learning_rate.lr=-0.5"], r"lr in the command line must not be negative, and is -0\.5"),
        (["--seed=[1"], r"--seed=\[1 does not parse as YAML"),
        (["--seed=2024-13-45"], "--seed=2024-13-45 does not parse as YAML"),
        (["--seed"], "argument --seed has no value"),
        (["--seed", "--train.epochs=3"], "argument --seed has no value"),
        (["-c"], "argument -c has no value"),
        (["run.yaml"], "argument 'run.yaml' is not understood"),
        (["-c", "/nowhere/run.yaml"], "cannot read the configuration /nowhere/run.yaml: No such file"),
    ],
)
def test_refused_on_the_command_line(configure, argv, message):
    with pytest.raises(UserError, match=message):
        configure(*argv)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tarin: {epochs: 3}", r"unknown key tarin in .*mine\.yaml; the nearest known key is train"),
        ("train: {epochs: '3'}", r"train\.epochs in .*mine\.yaml must be a whole number, not text \('3'\)"),
        ("train: {ckpt_path: 2024}", r"train\.ckpt_path in .*mine\.yaml must be text, not a whole number"),
        ("train: 3", r"train in .*mine\.yaml must be a section"),
        ("train:", r"train in .*mine\.yaml must be a section, not null"),
        (
            "data_loader: {train: {map: {operations: {type: A}}}}",
            "operations in .* must be a list, each entry a section, not a section",
        ),
        ("seed: 1\nseed: 2", r"(?s)mine\.yaml does not parse.*duplicate key .seed. .*line: 2\)$"),
        ("train: {epochs: -1}", r"train\.epochs in .*mine\.yaml must not be negative, and is -1"),
        (
            "learning_rate: {lr_epochs: [8, soon, 9.5]}",
            "a whole number, not a list, each entry a whole number or text or a number",
        ),
        ("data_loader: {train: {map: {operations: [A]}}}", "a section, not a list, each entry text"),
        ("a: [", r"mine\.yaml does not parse as YAML"),
        ("\tseed: 1", "does not parse"),
        ("seed: 2024-13-45", "does not parse"),
        ("", "holds no configuration"),
        ("[1]", "holds no configuration"),
        ("base: none.yaml", r"cannot read the configuration .*none\.yaml"),
        ("base: mine.yaml", "goes in a circle"),
        ("base: other.yaml", "goes in a circle"),
    ],
)
def test_refused_in_a_file(configure, text, message):
    with pytest.raises(UserError, match=message):
        configure(mine=text, other="base: mine.yaml")


def test_a_file_of_bytes_is_refused(configure, tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match=r"cannot read the configuration .*codec can't decode"):
        configure("-c", str(tmp_path / "mine.yaml"))


def test_keys_of_published_files_that_allow_one_value_or_have_no_effect(tmp_path, capsys):
    default = tmp_path / "default_config.yaml"
    default.write_text(
        DEFAULT + "device_target: ''\nonly: [model.type, context.save_graphs]\n"
        "instead: {device_target: context.device_target, model.stem: seed, train.resume: null}"
    )
    argv = ["--device_target=CPU", "--model.type=R2Plus1D18", "--model.stem=0"]
    assert load(argv, default).model.type == "R2Plus1D18"  # published files spell it both ways
    assert capsys.readouterr().out == ""
    load(["--device_target=GPU", "--model.stem=1"], default)
    assert capsys.readouterr().out == "note: device_target GPU is not used, context.device_target CPU is\n"
    load(["--train.resume=auto", "--model.stem=0"], default)
    assert capsys.readouterr().out == "note: train.resume auto is not used\n"
    with pytest.raises(UserError, match=r"context.save_graphs is True, but False is all there is"):
        load(["--context.save_graphs=True"], default)
    with pytest.raises(UserError, match=r"model.type is I3D, but R2Plus1d18 is all there is"):
        load(["--model.type=I3D"], default)
    with pytest.raises(UserError, match="unknown key only in the command line"):
        load(["--only=[]"], default)


def test_a_configuration_is_closed(configure):
    config = configure()
    with pytest.raises((AttributeError, KeyError)):
        config.train.epoch = 3
    with pytest.raises(AttributeError):
        config.train.epoch  # noqa: B018


def test_a_program_ends_with_one_line_and_status_1(tmp_path):
    (tmp_path / "default_config.yaml").write_text(DEFAULT)
    program = (
        "from shared_utils.config import UserError, run\ndef main(config):\n    {}\nrun(main, __file__)\n"
    )

    def answer(body, *argv):
        (tmp_path / "train.py").write_text(
            f"import sys; sys.path.insert(0, {sys.path[0]!r})\n{program.format(body)}"
        )
        done = subprocess.run(
            [sys.executable, tmp_path / "train.py", *argv],
            check=False,
            capture_output=True,
            text=True,
            env={"PYTHONPATH": ":".join(filter(None, sys.path))},
        )
        return done.returncode, done.stdout, done.stderr

    assert answer("print(config.seed)", "--seed=8") == (0, "8\n", "")
    status, out, err = answer("pass", "--sed=8")
    assert (status, out, err.count("\n")) == (1, "", 1) and err.startswith("error: unknown key sed in ")
    assert answer("raise UserError('two\\nlines')") == (1, "", "error: two lines\n")
    assert answer("raise KeyboardInterrupt") == (130, "", "interrupted\n")
    status, out, err = answer("raise ValueError", "--help")
    assert (status, err) == (0, "") and "default_config.yaml" in out
    assert out.endswith((tmp_path / "default_config.yaml").read_text())
