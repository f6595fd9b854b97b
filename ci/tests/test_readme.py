"""Every command in a ```bash block of README.md and */README.md works.

For authors: one command a line (a backslash at the end goes on with the next line); a block begins in the
folder of its README, and `cd` holds until its end. What nobody is to type belongs into a ```text block.

* A command without a remark is run for real, in order, in a copy of the repository where demo/videos and
  demo/kinetics hold a few synthetic videos and toy_config.yaml trains two steps only (ci/smoke_MODEL.yaml).
  Show training, evaluation, export and inference by toy_config.yaml. A command may take 20 seconds on an idle
  machine.
* A remark that begins with "needs", as in `# needs UCF101`, `# needs a GPU`, `# needs the internet` or
  `# needs 5 minutes`, says that it cannot be run here: of such a command it is checked that its script, its
  flags, its YAML files and keys, its make target exist. Any other remark is for the reader alone.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

from ci.changed_models import models
from ci.contract import repository_files
from ci.synthetic_videos import pick_classes, write_kinetics, write_ucf101
from shared_utils.config import UserError, load

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 240  # for a command of 20 seconds, on a machine with a lot else to do
PROGRAMS = ("train.py", "eval.py", "infer.py", "export.py")  # these take the keys of the YAML as flags


class Command(NamedTuple):
    readme: str
    line: int
    text: str
    needs: str  # the remark, "" for a command to run
    folder: str  # from the root


def commands(readme, text):
    """The commands of a README with this text, `readme` its path from the root."""
    found, block, folder, whole = [], False, "", ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip().startswith("```"):
            block, folder, whole = line.strip() == "```bash", str(Path(readme).parent), ""
        elif block:
            whole += line.strip()
            if whole.endswith("\\"):
                whole = whole[:-1]
                continue
            typed, _, remark = whole.partition(" # ")
            if typed.strip() and not typed.startswith("#"):
                needs = remark.strip() if remark.strip().startswith("needs") else ""
                found.append(Command(readme, number, typed.strip(), needs, folder))
            if moved := re.fullmatch(r"cd (\S+)", typed.strip()):
                folder = os.path.normpath(f"{folder}/{moved[1]}")
            whole = ""
    return found


def simple_commands(text):
    """The words of each part of a command line: a && b | c > d gives a, b and c."""
    parts, words = [], shlex.shlex(text, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    for word in words:
        if not parts or set(word) <= set("&|;"):
            parts.append([])
        if not set(word) <= set("&|;"):
            parts[-1].append(word)
    return [part[next((i for i, word in enumerate(part) if "=" not in word), 0) :] for part in parts]


def faults(root, command):
    """What a command names that does not exist, one line each; it is not run."""
    folder = root / command.folder
    for words in simple_commands(command.text):
        program, *arguments = words
        if program == "cd":
            folder = folder / arguments[0]
            yield from [] if folder.is_dir() else [f"no folder {arguments[0]}"]
        elif program == "make":
            targets = re.findall(r"^([\w-]+):", (root / "Makefile").read_text(), re.MULTILINE)
            named = [word for word in arguments if "=" not in word and word not in targets]
            yield from (f"make has no target {word}" for word in named)
        elif program == "bash" or re.fullmatch(r"(.*/)?python3?", program):
            yield from script_faults(root, folder, arguments)
        elif program == "pip" and "-r" in arguments:
            file = arguments[arguments.index("-r") + 1]
            yield from [] if (folder / file).is_file() else [f"no file {file}"]
        elif not shutil.which(program) and program not in ("eval", "export", "source"):
            yield f"no program {program}"


def script_faults(root, folder, arguments):
    if arguments[0] == "-m":
        package, module = arguments[1].split(".")[0], arguments[1]
        if not find_spec(package) or not find_spec(module):
            yield f"no module {module}"
        return
    script, *rest = arguments
    path = folder / script
    if not path.is_file():
        yield f"no script {script}"
    elif path.name in PROGRAMS:
        named = [
            folder / word if previous in ("-c", "--config_path") else word
            for previous, word in zip([None, *rest], rest)
        ]
        try:
            load(list(map(str, named)), path.with_name("default_config.yaml"))
        except UserError as error:
            yield str(error)
    elif script.endswith(".py"):
        options = [sys.executable, path, "--help"]
        text = subprocess.run(options, cwd=folder, check=False, capture_output=True, text=True).stdout
        flags = [word.split("=")[0] for word in rest if word.startswith("-")]
        yield from (f"{script} has no flag {flag}" for flag in flags if not re.search(rf"{flag}\b", text))
    else:
        for word in filter(re.compile(r".+\.yaml").fullmatch, rest):
            if not any((place / word).is_file() for place in (folder, path.parent.parent)):
                yield f"no file {word}"  # neither here nor in the model's folder, where scripts look, too


def all_commands():
    for path in repository_files(ROOT):
        if re.fullmatch(r"(\w+/)?README\.md", path):
            yield from commands(path, (ROOT / path).read_text(encoding="utf-8"))


def parametrized(needed):
    chosen = [command for command in all_commands() if bool(command.needs) is needed]
    names = [f"{command.readme}:{command.line}" for command in chosen]
    return pytest.mark.parametrize("command", chosen, ids=names)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A copy of the repository, its environment linked, with toy videos and toy_config.yaml of two steps."""
    root = tmp_path_factory.mktemp("readme") / "repository"
    for name in repository_files(ROOT):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
        if name.startswith("requirements"):
            os.utime(root / name, (0, 0))  # older than what is installed: make has nothing to install
    (root / ".venv").symlink_to(sys.prefix)
    for link in ROOT.glob("*/shared_utils"):
        (root / link.relative_to(ROOT)).symlink_to("../shared_utils")
    for model in models(root):
        toy, smoke = root / model / "toy_config.yaml", root / f"ci/smoke_{model}.yaml"
        toy.rename(toy.with_name("whole_toy_config.yaml"))
        text = smoke.read_text().replace("base: toy_config.yaml", "base: whole_toy_config.yaml")
        toy.write_text(text)
    small = {"frames": 16, "height": 24, "width": 32}
    write_ucf101(root / "demo/videos", pick_classes(18), 6, **small)
    write_kinetics(root / "demo/kinetics", pick_classes(8), 5, **small)
    return root


@parametrized(needed=False)
def test_command_runs(scratch, command):
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "MAKEFLAGS": ""}
    line, cwd = ["bash", "-euo", "pipefail", "-c", command.text], scratch / command.folder
    done = subprocess.run(
        line, cwd=cwd, env=env, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, f"{command.text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


@parametrized(needed=True)
def test_command_names_what_exists(command):
    assert list(faults(ROOT, command)) == []


README = """\
Text `not run`.
```bash
cd arn
bash scripts/run_standalone_train.sh \\
    toy_config.yaml
# a comment
python eval.py -c toy_config.yaml  # needs UCF101
```
```text
not run
```
"""


def test_commands_are_found():
    assert [command[1:] for command in commands("README.md", README)] == [
        (3, "cd arn", "", "."),
        (5, "bash scripts/run_standalone_train.sh toy_config.yaml", "", "arn"),
        (7, "python eval.py -c toy_config.yaml", "needs UCF101", "arn"),
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("cd arn && python train.py -c toy_config.yaml --train.epochs=3", None),
        ("CUDA_VISIBLE_DEVICES=0 python arn/train.py -c arn/toy_config.yaml | tee log", None),
        ("make setup DEVICE=gpu", None),
        ("python ci/synthetic_videos.py DEST --classes 3 --size 48x64", None),
        ("bash arn/scripts/run_standalone_train.sh toy_config.yaml", None),
        ('eval "$(python ci/cuda.py)"', None),
        ("pip install -r requirements-gpu.txt", None),
        ("cd tsm && make demo", "no folder tsm"),
        ("make demos", "make has no target demos"),
        ("python arn/training.py", "no script arn/training.py"),
        ("python arn/train.py --train.epoch=3", "unknown key train.epoch in"),
        ("python arn/train.py --train.epochs=three", "train.epochs in the command line must be"),
        ("python arn/train.py -c big_config.yaml", "cannot read the configuration"),
        ("python ci/synthetic_videos.py DEST --class 3", "has no flag --class"),
        ("bash arn/scripts/run_standalone_train.sh big.yaml", "no file big.yaml"),
        ("bash arn/scripts/run.sh", "no script arn/scripts/run.sh"),
        ("pip install -r requirements-tpu.txt", "no file requirements-tpu.txt"),
        ("python -m shared_utils.cuba", "no module shared_utils.cuba"),
        ("nvidia-smy", "no program nvidia-smy"),
    ],
)
def test_each_mistake_is_seen(text, fault):
    found = list(faults(ROOT, Command("README.md", 1, text, "needs a GPU", ".")))
    assert found == [] if fault is None else len(found) == 1 and fault in found[0], found


DEFAULTS = sorted(ROOT.glob("*/default_config.yaml"))


@pytest.mark.parametrize("default", DEFAULTS, ids=lambda path: path.parent.name)
def test_a_copy_of_the_default_configuration_is_a_configuration(tmp_path, default):
    copy = shutil.copy(default, tmp_path / "copy.yaml")
    assert load(["-c", str(copy)], default) == load([], default)


@pytest.mark.parametrize("default", DEFAULTS, ids=lambda path: path.parent.name)
def test_a_conversion_does_not_replace_its_source(tmp_path, default):
    source = tmp_path / "published.ckpt"
    source.write_text("weights")
    layouts = re.findall(r"convert.py .*--layout (\S+)", (default.parent / "README.md").read_text())
    command = [sys.executable, "convert.py", source, f"{tmp_path}/./{source.name}", "--layout", layouts[0]]
    done = subprocess.run(command, cwd=default.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("error: DEST is the source"), done.stderr
    assert source.read_text() == "weights"
