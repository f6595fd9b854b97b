"""`python ci/changed_models.py BASE` prints, as a JSON list, the models that a change since BASE touches.

A model is a folder with a train.py. It runs when something in it changed, or in what all models share.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

SHARED = re.compile(r"(shared_utils|ci|\.github)/|requirements[^/]*\.txt$|(Makefile|pyproject\.toml)$")


def models(root):
    """Return the names of the folders of `root` that have a train.py, sorted."""
    return sorted(path.parent.name for path in Path(root).glob("*/train.py"))


def affected(names, paths):
    """Return those of the models `names` that a change of `paths`, relative to the repository, touches."""
    if any(map(SHARED.match, paths)):
        return list(names)
    return [name for name in names if any(path.startswith(f"{name}/") for path in paths)]


def main():
    """Print the list for BASE; one line and status 1 where it is not given or git does not know it."""
    if len(sys.argv) != 2:
        sys.exit("usage: python ci/changed_models.py BASE")
    root = Path(__file__).resolve().parents[1]
    command = ["git", "diff", "-z", "--name-only", "--no-renames", "--end-of-options", sys.argv[1], "--"]
    listing = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if listing.returncode:
        sys.exit(f"error: git finds no commit {sys.argv[1]!r}")
    print(json.dumps(affected(models(root), listing.stdout.split("\0"))))


if __name__ == "__main__":
    main()
