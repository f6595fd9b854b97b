"""List every bad, missing or duplicate video of a data set before anyone trains.

    python ci/check_data.py DATA [--workers N] [--json FILE] [--strict]

bad: no decoder reads it, and why. missing: an official list names it (ucfTrainTestlist/*list*.txt,
testTrainMulti_7030_splits/*.txt or kinetics-400_*.csv) and it is not there. duplicate: the same bytes as
another file. Pickles as StNet's video2pkl.py makes them count as there and are not looked into. Status 1
where one is bad. Missing and duplicate ones are only told, unless --strict makes them errors: every copy of
Kinetics-400 lacks videos and has some twice, and training does without. Nothing is moved or deleted.
"""

import argparse
import csv
import hashlib
import json
import os
import re
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from shared_utils.video import SUFFIXES, VideoError, decode


def videos(root, suffixes=SUFFIXES):
    """Relative paths of all videos under `root`, sorted: files by suffix, and folders of JPEG frames."""
    found = []
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        folder = Path(place).relative_to(root)
        if any(name.endswith(".jpg") for name in names):
            found.append(folder)
        found += [folder / name for name in names if name.lower().endswith(suffixes) and name[0] != "."]
    return sorted(path.as_posix() for path in found)


def listed(root):
    """{relative path: list that names it} of UCF101's, HMDB51's or Kinetics-400's own lists. Of Kinetics-400
    a path lacks the folder of the class, if there is one. ValueError."""
    named = {}
    for path in sorted((root / "ucfTrainTestlist").glob("*list*.txt")):
        for line in filter(str.strip, path.read_text(encoding="utf-8-sig").splitlines()):
            named.setdefault(re.sub(r" \d+$", "", line.strip()), path.name)
    for path in sorted((root / "testTrainMulti_7030_splits").glob("*_test_split*.txt")):
        folder = path.name.rsplit("_test_split", 1)[0]
        for line in filter(str.strip, path.read_text(encoding="utf-8-sig").splitlines()):
            named.setdefault(f"{folder}/{line.rsplit(maxsplit=1)[0]}", path.name)
    for path in sorted(root.glob("kinetics-400_*.csv")):
        split = path.stem.split("_")[1]  # the folder; the list's own column says "validate" for val
        with path.open(newline="", encoding="utf-8-sig") as table:
            for row in csv.DictReader(table):
                try:
                    name = f"{row['youtube_id']}_{int(row['time_start']):06d}_{int(row['time_end']):06d}.mp4"
                except (KeyError, TypeError, ValueError):
                    raise ValueError(f"{path} is no list of Kinetics-400: {dict(row)}") from None
                named.setdefault(f"{split}/{name}", path.name)
    return named


def fingerprint(path):
    """SHA-256 of a file, or of the frames of a folder one after the other."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for frame in sorted(path.glob("*.jpg")):
        digest.update(hashlib.sha256(frame.read_bytes()).digest())
    return digest.hexdigest()


def examine(path):
    """(fingerprint, reason why it cannot be decoded or "")."""
    try:
        decode(path, range, each=lambda frame: np.empty(0))  # all of it
    except VideoError as error:
        return fingerprint(path), error.reason
    return fingerprint(path), ""


def check(root, workers):
    """{"bad": {path: reason}, "missing": {path: list}, "duplicate": {path: the same as}, "videos": count,
    "pickles": count}."""
    names, bad, same = videos(root), {}, defaultdict(list)
    pickles = set(videos(root, (".pkl",))) - set(names)
    with ThreadPoolExecutor(workers) as pool:
        results = pool.map(examine, (root / name for name in names))
        for name, (digest, reason) in zip(names, tqdm(results, total=len(names), unit="video", disable=None)):
            if reason:
                bad[name] = reason
            else:
                same[digest].append(name)
    # Frames that dataset_preprocess made stand for the file: Class/v_x for Class/v_x.avi.
    there = {*names, *(str(Path(name).with_suffix("")) for name in {*names, *pickles})}
    # Those of Kinetics-400 may be in a folder of their class.
    there.update([f"{Path(name).parts[0]}/{Path(name).name}" for name in there])
    named = listed(root)
    missing = {name: named[name] for name in named if not there & {name, str(Path(name).with_suffix(""))}}
    duplicate = dict(sorted((name, first) for first, *others in same.values() for name in others))
    found = {"bad": bad, "missing": missing, "duplicate": duplicate}
    return {"videos": len(names), "pickles": len(pickles), **found}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of the data set")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="videos to decode at once")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings here as well")
    parser.add_argument("--strict", action="store_true", help="missing and duplicate videos are errors, too")
    args = parser.parse_args()
    try:
        if args.workers < 1:
            raise ValueError("--workers is at least 1")
        if not args.data.is_dir():
            raise ValueError(f"no such folder: {args.data}")
        found = check(args.data, args.workers)
        if not found["videos"] + found["pickles"]:
            raise ValueError(f"no videos in {args.data}")
        if args.json:
            args.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    words = {"bad": "", "missing": "named by ", "duplicate": "the same as "}
    for kind, word in words.items():
        for name, what in found[kind].items():
            print(f"{kind}: {name}: {word}{what}")
    counts = ", ".join(f"{len(found[kind])} {kind}" for kind in words)
    print(f"{found['videos']} videos in {args.data}: {counts}")
    if found["pickles"]:
        print(f"{found['pickles']} pickles of frames are there as well: they were not looked into")
    sys.exit(bool(found["bad"] or (args.strict and (found["missing"] or found["duplicate"]))))


if __name__ == "__main__":
    main()
