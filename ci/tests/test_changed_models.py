"""changed_models: which models a change touches, on lists of paths and on a made-up repository."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ci.changed_models import affected

SCRIPT = Path(__file__).resolve().parents[1] / "changed_models.py"
MODELS = ["arn", "i3d"]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([], []),
        (["README.md", "docs/arn/x.md", "arnold/train.py"], []),
        ([".github/workflows/ci.yml"], MODELS),
        (["pyproject.toml"], MODELS),
        (["arn/src/network.py"], ["arn"]),
        (["i3d/train.py", "arn/README.md"], MODELS),
        (["shared_utils/video.py"], MODELS),
        (["ci/synthetic_videos.py"], MODELS),
        (["requirements-gpu.txt"], MODELS),
        (["Makefile"], MODELS),
        (["i3d/requirements.txt"], ["i3d"]),
    ],
)
def test_affected(paths, expected):
    assert affected(MODELS, paths) == expected


@pytest.fixture
def repository(tmp_path):
    """Return run(*command) in a git repository with two models, one commit and the script."""
    for name in ("arn/train.py", "i3d/train.py", "notes/readme.txt", "ci/changed_models.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("# empty\n")
    shutil.copy(SCRIPT, tmp_path / "ci")

    def run(*command):
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    run("git", "init", "-q")
    run("git", "add", ".")
    run("git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "first")
    run.root = tmp_path
    return run


def test_moved_file_touches_both_models(repository):
    assert repository(sys.executable, "ci/changed_models.py", "HEAD").stdout == "[]\n"
    (repository.root / "arn/a b.py").write_text("x = 1\n" * 20)
    repository("git", "add", ".")
    assert json.loads(repository(sys.executable, "ci/changed_models.py", "HEAD").stdout) == ["arn"]
    repository("git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "second")
    repository("git", "mv", "arn/a b.py", "i3d/c.py")
    assert json.loads(repository(sys.executable, "ci/changed_models.py", "HEAD").stdout) == MODELS
    empty_tree = repository("git", "hash-object", "-t", "tree", "/dev/null").stdout.strip()
    assert json.loads(repository(sys.executable, "ci/changed_models.py", empty_tree).stdout) == MODELS


@pytest.mark.parametrize("arguments", [["nowhere"], ["--output=x"], []])
def test_bad_input_is_one_line(repository, arguments):
    done = repository(sys.executable, "ci/changed_models.py", *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert not (repository.root / "x").exists()
