"""contract: a tiny repository that keeps every rule, and each rule seen to fail when one thing is changed."""

import subprocess
import sys
from pathlib import Path

import pytest

from ci.contract import breaches

PROGRAM = Path(__file__).resolve().parents[1] / "contract.py"
SCRIPT = '#!/bin/bash\nset -euo pipefail\ncd "$(dirname "$0")/.."\n'
YAML = """\
train:
  lr: 0.1  # learning rate
  # counted from 1
  epochs: 3
  dataset:
    path: data  # folder
eval:
  dataset:
    path: data
model:  # the network's numbers
  width: 8
map:
  operations:
    - type: VideoResize
"""
GOOD = {
    **dict.fromkeys((".pre-commit-config.yaml", ".github/workflows/ci.yml", ".ci/run", "LICENSE"), ""),
    **dict.fromkeys(("Makefile", "pyproject.toml", "shared_utils/__init__.py", "x3d/train.py"), ""),
    **{f"shared_utils/{name}.py": "" for name in ("video", "sampling", "transforms", "datasets", "metrics")},
    **dict.fromkeys(("shared_utils/config.py", "shared_utils/tests/test_video.py"), ""),
    "shared_utils/training.py": "def go(train):\n    return train.lr, train.epochs, train.dataset.path\n",
    "README.md": "[how](Makefile), [site](https://example.org), [below](#here)\n",
    "requirements.txt": "# why\nnumpy==1.26.4\nx[y]==2; python_version < '3.10'  # and why\n",
    **{f"arn/{name}.py": "" for name in ("infer", "export", "convert", "src/dataset", "tests/test_it")},
    "arn/train.py": "from src.network import ARN\ndef main(c):\n    ARN(**c.model)\n    c.map.operations\n",
    "arn/eval.py": "from shared_utils import training\n",
    "arn/src/network.py": "from shared_utils.config import UserError\nfrom mindspore import nn\n",
    "arn/README.md": '[one](../README.md#top) <img src="toy_config.yaml">\n',
    "arn/requirements.txt": "-r ../requirements.txt\n",
    "arn/default_config.yaml": YAML,
    "arn/toy_config.yaml": "base: default_config.yaml\ntrain:\n  epochs: 1\n",
    **{f"arn/scripts/run_{name}.sh": SCRIPT for name in ("standalone_train", "distribute_train", "eval")},
}
NOT_A_MODEL = "x3d/train.py"  # only named where two models are needed
BROKEN = {  # path: text that it becomes (a function of the good one), and the breach
    "file of the repository": ("LICENSE", None, ".:1: LICENSE is missing"),
    "file of a model": ("arn/convert.py", None, "arn:1: convert.py is missing"),
    "script": ("arn/scripts/run_eval.sh", None, "arn:1: scripts/run_*eval*.sh is missing"),
    "unfinished": ("arn/infer.py", "# TO" + "DO\n", "arn/infer.py:1: unfinished: TO" + "DO"),
    "path": ("README.md", "cd /wo" + "rk/x\n", "tells of the machine it was written on"),
    "long": ("arn/infer.py", "x = 1\n" * 401, "arn/infer.py:401: 401 lines, at most 400 are allowed"),
    "long train.py": (
        "arn/train.py",
        lambda old: old + "\n" * 146,
        "arn/train.py:150: 150 lines, at most 149 are allowed",
    ),
    "long shared file": ("shared_utils/video.py", "x = 1\n" * 251, "251 lines, at most 250 are allowed"),
    "long script": ("arn/scripts/run_eval.sh", lambda old: old + "\n" * 28, "31 lines, at most 30 are"),
    "shebang": ("arn/scripts/run_eval.sh", "#!/bin/sh\nset -euo pipefail\n", "first line is not #!/bin/bash"),
    "no set": ("arn/scripts/run_eval.sh", "#!/bin/bash\n", "no line `set -euo pipefail`"),
    "rm": ("arn/scripts/run_eval.sh", lambda old: old + "rm -v -rf x\n", "run_eval.sh:4: rm -rf"),
    "rm -fr": ("arn/scripts/run_eval.sh", lambda old: old + "rm -fr x\n", "run_eval.sh:4: rm -rf"),
    "sed": ("arn/scripts/run_eval.sh", lambda old: old + "sed s/a/b/ a.yaml\n", "sh:4: sed rewrites"),
    "sed -i": ("arn/scripts/run_eval.sh", lambda old: old + "sed -i s/a/b/ $1\n", "sh:4: sed rewrites"),
    "syntax": ("arn/infer.py", "def (\n", "arn/infer.py:1: does not parse"),
    "shared imports src": ("shared_utils/video.py", "import src.network\n", "imports src.network: arrows"),
    "shared imports a program": ("shared_utils/video.py", "from train import main\n", "imports train.main"),
    "shared imports a model": ("shared_utils/tests/test_video.py", "import arn.train\n", "imports arn.train"),
    "shared names a model": ("shared_utils/video.py", "x = 1  # as ARN does\n", "names the model ARN"),
    "torch": ("arn/src/dataset.py", "def f():\n    import torch\n", "arn/src/dataset.py:2: imports torch"),
    "shared imports ci": ("shared_utils/video.py", "import ci.pack\n", "imports ci.pack"),
    "ci": ("arn/train.py", lambda old: old + "from ci import pack\n", "arn/train.py:5: imports ci.pack"),
    "src imports up": ("arn/src/dataset.py", "from export import main\n", "imports export.main"),
    "network loads": ("arn/src/network.py", "from shared_utils import config\n", "imports shared_utils"),
    "network takes": ("arn/src/network.py", "def f(config): pass\n", "network.py:1: touches the config"),
    "network reads": ("arn/src/network.py", "x = 1\ny = x.config\n", "network.py:2: touches the config"),
    "no comment": (
        "arn/default_config.yaml",
        lambda old: old.replace("  # counted from 1\n", ""),
        "arn/default_config.yaml:3: the key train.epochs has no comment",
    ),
    "dead key": (
        "arn/default_config.yaml",
        lambda old: old + "dead: 1  # nothing\n",
        "arn/default_config.yaml:15: no program reads the key dead",
    ),
    "unknown key": ("arn/toy_config.yaml", "train:\n  epoch: 1\n", "toy_config.yaml:1: unknown key"),
    "not pinned": ("requirements.txt", "numpy>=1\n", "requirements.txt:1: numpy>=1 is not pinned with =="),
    "requirements": ("arn/requirements.txt", "-r r.txt\n", "arn/requirements.txt:1: no such file: r.txt"),
    "link": ("arn/README.md", "\n[x](gone.md#y)\n", "arn/README.md:2: the link leads nowhere: gone.md#y"),
    "image": ("arn/README.md", '<img src="gone.gif">\n', "arn/README.md:1: the link leads nowhere: gone.gif"),
}


@pytest.fixture
def tree(tmp_path):
    for name, text in GOOD.items():
        if name != NOT_A_MODEL:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
    (tmp_path / "arn/shared_utils").symlink_to("../shared_utils")
    return tmp_path


def told(root):
    return "\n".join(f"{path or '.'}:{line}: {what}" for path, line, what in breaches(root)[1])


def test_good_tree(tree):
    assert told(tree) == ""


@pytest.mark.parametrize(("path", "change", "breach"), BROKEN.values(), ids=BROKEN.keys())
def test_each_rule_can_fail(tree, path, change, breach):
    if change is None:
        (tree / path).unlink()
    else:
        (tree / path).write_text(change(GOOD[path]) if callable(change) else change)
    assert breach in told(tree) and told(tree).count("\n") == 0


def test_models_import_no_other_model(tree):
    (tree / "x3d").mkdir()
    (tree / "x3d/train.py").write_text("")
    (tree / "arn/tests/test_it.py").write_text("from x3d.src import network\n")
    assert "arn/tests/test_it.py:1: imports x3d.src.network: arrows" in told(tree)


def test_shared_utils_stays_thin(tree):
    for number in range(7):
        (tree / f"shared_utils/more{number}.py").write_text("x = 1\n" * 199)
    assert told(tree) == ""
    (tree / "shared_utils/more0.py").write_text("x = 1\n" * 205)
    assert "shared_utils:1: 1401 lines without tests, at most 1400 are allowed" in told(tree)


def test_copies_that_models_keep_are_the_same(tree):
    for model in ("i3d", "r2plus1d"):
        (tree / model / "src").mkdir(parents=True)
        (tree / model / "src/views.py").write_text("x = 1\n")
    assert "differs" not in told(tree)
    (tree / "r2plus1d/src/views.py").write_text("x = 2\n")
    assert told(tree) == "r2plus1d/src/views.py:1: differs from i3d/src/views.py"
    (tree / "r2plus1d/src/views.py").write_text("x = 1\n")
    (tree / "stnet/src").mkdir(parents=True)
    for model, text in (("i3d", "x = 1\n"), ("stnet", "x = 2\n")):
        (tree / model / "src/sync_norm.py").write_text(text)
    assert told(tree) == "stnet/src/sync_norm.py:1: differs from i3d/src/sync_norm.py"


def test_git_decides_what_belongs_to_the_repository(tree):
    subprocess.run(["git", "init", "-q"], cwd=tree, check=True)
    (tree / ".gitignore").write_text("output/\n")
    (tree / "output").mkdir()
    (tree / "output/note.txt").write_text("TO" + "DO\n")
    assert told(tree) == ""
    (tree / "note.txt").write_text("TO" + "DO\n")
    assert told(tree) == "note.txt:1: unfinished: TO" + "DO"


def test_command(tree):
    def run():
        return subprocess.run([sys.executable, PROGRAM, tree], capture_output=True, text=True, check=False)

    done = run()
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.endswith(" checks, no breach\n")
    (tree / "LICENSE").unlink()
    done = run()
    assert (done.returncode, done.stdout, done.stderr) == (1, ".:1: LICENSE is missing\n", "")
