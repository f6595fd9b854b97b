"""Make the one folder that a ModelArts job uploads: `python ci/pack.py MODEL DEST` makes DEST/MODEL.

In it are the model, shared_utils as a folder of its own, all requirements in one file, VERSION and LICENSE;
not in it are tests, data, links, and what runs left behind. Packing again replaces what packing made and
leaves any other file in DEST/MODEL alone.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ci.changed_models import models

MARKER = ".packed.json"  # the files that packing made


def left_out(root):
    """Names of files and folders that are not packed: .gitignore's, tests and data."""
    patterns = (line.strip().rstrip("/") for line in (root / ".gitignore").read_text().splitlines())
    return [pattern for pattern in patterns if pattern and pattern[0] != "#"] + ["tests", "data", ".*"]


def files(folder, patterns):
    """Relative paths of the files of `folder`; links are left out, they lead to data or to shared_utils."""
    found = []
    for place, folders, names in os.walk(folder):
        kept = [name for name in folders + names if not any(fnmatch(name, pattern) for pattern in patterns)]
        folders[:] = [name for name in folders if name in kept]
        paths = (Path(place, name) for name in names if name in kept)
        found += [path.relative_to(folder).as_posix() for path in paths if not path.is_symlink()]
    return found


def requirements(path):
    """The requirements of a file and of those it names by -r, each once. ValueError for two of one name."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.split("#")[0].strip()
        for requirement in requirements(path.parent / text[2:].strip()) if text.startswith("-r") else [text]:
            key = requirement.split("==")[0], requirement.partition(";")[2]
            if found.setdefault(key, requirement) != requirement:
                raise ValueError(f"{path} asks for both {found[key]} and {requirement}")
    return list(filter(None, found.values()))


def version(root):
    """What git calls the commit, with -dirty for a changed tree; unknown outside git."""

    def git(*arguments):
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    if Path(git("rev-parse", "--show-toplevel")) != root:
        return "unknown"
    return git("describe", "--always", "--tags", "--dirty") or "unknown"


def claim(target):
    """Make the folder `target`, or remove what packing made in it. ValueError if it is something else."""
    marker = target / MARKER
    if target.is_symlink() or (target.exists() and not marker.is_file()):
        raise ValueError(f"{target} exists and was not made by packing: name another folder")
    target.mkdir(parents=True, exist_ok=True)
    for name in json.loads(marker.read_text()) if marker.exists() else []:
        path = Path(os.path.normpath(target / name))
        if target not in path.parents:
            raise ValueError(f"{marker} names {name}, which is outside: it was not made by packing")
        path.unlink(missing_ok=True)


def pack(root, model, dest):
    """Make dest/model from the repository `root`; return its path. OSError, ValueError."""
    root, target = Path(root).resolve(), Path(dest).resolve() / model
    if model not in models(root):
        raise ValueError(f"no model {model}: there are {', '.join(models(root)) or 'none'}")
    if {root / model, root / "shared_utils"} & {target, *target.parents}:
        raise ValueError(f"{target} is inside of what is packed: name another folder")
    merged = "".join(f"{line}\n" for line in requirements(root / model / "requirements.txt"))
    patterns = left_out(root)
    copies = {"LICENSE": root / "LICENSE"}
    for folder, prefix in ((root / model, ""), (root / "shared_utils", "shared_utils/")):
        copies.update({prefix + name: folder / name for name in files(folder, patterns)})
    texts = {"requirements.txt": merged, "VERSION": f"{model} {version(root)}\n"}
    claim(target)
    (target / MARKER).write_text(json.dumps(sorted({*copies, *texts}), indent=1) + "\n")
    for name, source in copies.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target / name)
    for name, text in texts.items():
        (target / name).write_text(text, encoding="utf-8")
    return target


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("dest", type=Path)
    args = parser.parse_args()
    try:
        target = pack(Path(__file__).resolve().parents[1], args.model, args.dest)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"{target}: {(target / 'VERSION').read_text().strip()}")


if __name__ == "__main__":
    main()
