"""pack: the packed folder stands alone, and packing never touches what it did not make."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ci import pack

ROOT = Path(__file__).resolve().parents[2]
TREE = {
    ".gitignore": "# runs\noutput/\n*.ckpt\n__pycache__/\n",
    "LICENSE": "Apache",
    "requirements.txt": "# why\nnumpy==1.26.4  # and why\ntqdm==4.1\n",
    "shared_utils/__init__.py": "",
    "shared_utils/video.py": "FRAMES = 3\n",
    "shared_utils/labels.txt": "zumba\n",
    "shared_utils/tests/test_video.py": "",
    "arn/requirements.txt": "-r ../requirements.txt\ntqdm==4.1\nx==1; python_version < '3.10'\nx==2\n",
    "arn/train.py": "from src.network import FRAMES\nprint(FRAMES)\n",
    "arn/src/network.py": "from shared_utils.video import FRAMES\n",
    "arn/scripts/run.sh": "#!/bin/bash\n",
    "arn/tests/test_it.py": "",
    "arn/output/best.txt": "",
    "arn/data/v.avi": "",
    "arn/best.ckpt": "",
    "arn/.hidden": "",
    "arn/src/__pycache__/x.pyc": "",
}


@pytest.fixture
def tree(tmp_path):
    for name, text in TREE.items():
        (tmp_path / "repository" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "repository" / name).write_text(text)
    (tmp_path / "repository/arn/shared_utils").symlink_to("../shared_utils")
    (tmp_path / "repository/arn/videos").symlink_to(tmp_path)
    (tmp_path / "repository/arn/scripts/run.sh").chmod(0o755)
    return tmp_path / "repository"


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }


def test_what_is_packed(tree, tmp_path):
    packed = pack.pack(tree, "arn", tmp_path / "dest")
    assert content(packed).keys() == {
        *("LICENSE", "VERSION", "requirements.txt", "train.py", "src/network.py", "scripts/run.sh"),
        *("shared_utils/__init__.py", "shared_utils/video.py", "shared_utils/labels.txt", pack.MARKER),
    }
    assert not any(path.is_symlink() for path in packed.rglob("*")) and os.access(
        packed / "scripts/run.sh", os.X_OK
    )
    requirements = (packed / "requirements.txt").read_text()
    assert requirements == "numpy==1.26.4\ntqdm==4.1\nx==1; python_version < '3.10'\nx==2\n"
    assert (packed / "VERSION").read_text() == "arn unknown\n"


def test_version_is_that_of_this_repository_alone(tree, tmp_path):
    def git(folder, *arguments):
        author = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", *author, *arguments], cwd=folder, check=True, capture_output=True)

    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "another's")
    assert pack.version(tree) == "unknown"
    git(tree, "init")
    git(tree, "commit", "--allow-empty", "-m", "first")
    git(tree, "tag", "v1")
    assert pack.version(tree) == "v1"


def test_packing_again_replaces_its_own_files_alone(tree, tmp_path):
    packed = pack.pack(tree, "arn", tmp_path / "dest")
    first = content(packed)
    (packed / "output").mkdir()
    (packed / "output/best.ckpt").write_text("mine")
    (packed / "src/network.py").write_text("old")
    (tree / "arn/train.py").rename(tree / "arn/eval.py")
    (tree / "arn/train.py").write_text("new")
    (tree / "arn/src/loss.py").write_text("")
    pack.pack(tree, "arn", tmp_path / "dest")
    (tree / "arn/src/loss.py").unlink()
    pack.pack(tree, "arn", tmp_path / "dest")
    changed = {"train.py": "new", "eval.py": TREE["arn/train.py"], "output/best.ckpt": "mine"}
    assert {**content(packed), pack.MARKER: ""} == {**first, **changed, pack.MARKER: ""}


def test_refuses_what_it_did_not_make(tree, tmp_path):
    (tmp_path / "dest/arn").mkdir(parents=True)
    (tmp_path / "dest/arn/thesis.txt").write_text("mine")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/arn").symlink_to(tmp_path / "dest/arn")
    (tmp_path / "forged/arn").mkdir(parents=True)
    (tmp_path / "forged/arn" / pack.MARKER).write_text('["../../dest/arn/thesis.txt"]')
    for dest in ("dest", "linked", "forged"):
        with pytest.raises(ValueError, match="not made by packing"):
            pack.pack(tree, "arn", tmp_path / dest)
    for inside in (tree, tree / "arn/packed", tree / "shared_utils"):
        with pytest.raises(ValueError, match="inside of what is packed"):
            pack.pack(tree, "arn", inside)
    assert (tmp_path / "dest/arn/thesis.txt").read_text() == "mine"
    (tree / "arn/requirements.txt").write_text("-r ../requirements.txt\nnumpy==2\n")
    with pytest.raises(ValueError, match=r"both numpy==1.26.4 and numpy==2"):
        pack.pack(tree, "arn", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_unknown_model_is_one_line(tmp_path):
    command = [sys.executable, ROOT / "ci/pack.py", "tsm", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (
        1,
        "",
        1,
    ) and "no model tsm" in done.stderr


@pytest.mark.parametrize("model", pack.models(ROOT))
def test_packed_model_imports_from_its_own_folder_alone(model, tmp_path):
    command = [sys.executable, ROOT / "ci/pack.py", model, tmp_path]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    code = "import train, eval, infer, export, shared_utils.video as v; print(v.__file__, train.__file__)"
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path / model, env=clean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        f"{tmp_path / model}/{name}" for name in ("shared_utils/video.py", "train.py")
    ]
