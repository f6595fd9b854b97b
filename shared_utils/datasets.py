"""Video data sets as published, on disk: which videos there are, of which class, in which split."""
import csv
import json
import os
import re
from collections import namedtuple
from pathlib import Path

from shared_utils.config import UserError, explain
from shared_utils.metrics import write_text
from shared_utils.video import SUFFIXES

KINETICS400 = Path(__file__).with_name("kinetics400_labels.txt")  # alphabetical; ids are lines, from 0
REMEDY = ("name yours by data_loader.train.dataset.path and data_loader.eval.dataset.path; UCF101 is at https://"
          "www.crcv.ucf.edu/data/UCF101.php, ci/synthetic_videos.py makes others, also in Kinetics' layout")

# id: unique in the data set, "Class/v_Class_g01_c01"; path: a video file, or a folder of its frames as JPEG.
Video = namedtuple("Video", "id path label")


def video_files(folder, suffixes=SUFFIXES):
    """Paths of the videos in one folder, sorted: files with one of the suffixes, folders of JPEG frames."""
    with explain(OSError, f"cannot read the folder {folder}, or one in it"), os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if not entry.name.startswith(".") and (
            any(name.endswith(".jpg") for name in os.listdir(entry.path)) if entry.is_dir() else
            entry.name.lower().endswith(suffixes)))  # a link to nowhere is a bad video


def video_id(path):
    """"Class/name" of a video's path, the same for the file and for the folder of its frames."""
    path = Path(path)
    name = path.stem if path.suffix.lower() in SUFFIXES else path.name
    return f"{path.parent.name}/{name}" if path.parent.name else name


def read_lines(path):
    """The lines of a text file without blank ones. Raises UserError."""
    with explain((OSError, UnicodeDecodeError), f"cannot read {path}"):  # some editors begin with a mark
        lines = [line.strip() for line in Path(path).read_text("utf-8-sig").splitlines() if line.strip()]
    if not lines:
        raise UserError(f"{path} is empty")
    return lines


def ucf101(root, split, chosen="1"):
    """([Video], names not on disk, {class: id}) of UCF101's official list `chosen` (1 to 3) of train or test,
    or of a list of that form at the path `chosen`. Ids are classInd.txt's, less 1. Raises UserError."""
    lists, labels = Path(root) / "ucfTrainTestlist", {}
    for line in read_lines(lists / "classInd.txt"):
        number, _, name = line.partition(" ")
        if not number.isdecimal() or not name:
            raise UserError(f"classInd.txt of {root}: {line!r} is not `<number> <class>`")
        labels[name.strip()] = int(number) - 1
    if sorted(labels.values()) != list(range(len(labels))):
        raise UserError(f"classInd.txt of {root} must number its {len(labels)} classes from 1, each once")
    own = lists / f"{'test' if split == 'val' else split}list{chosen:0>2}.txt"
    rows = [re.sub(r" \d+$", "", line) for line in read_lines(own if chosen.isdigit() else chosen)]
    return on_disk(root, split, [(Path(row).parent.name, row, Path(root, row)) for row in rows], labels)


def on_disk(root, split, rows, labels):
    """([Video], names not on disk, labels) of rows (class, name, path or None of file or frames)."""
    videos, missing = [], []
    for label, name, file in dict.fromkeys(rows):  # a row may be there twice
        path = file and (file if file.exists() else file.with_suffix(""))
        if not path or not path.exists():
            missing.append(name)
        elif label not in labels:
            raise UserError(f"{name} of the {split} list: classInd.txt has no class {label}")
        else:
            videos.append(Video(video_id(name), path, labels[label]))
    if not videos:
        raise UserError(f"none of the {len(missing)} videos of the {split} list is in {root}")
    return videos, missing, labels


def kinetics400_rows(path):
    """[(class, file name without ending)] of a kinetics-400_*.csv. Raises UserError with the line."""
    with explain(OSError, f"cannot read the list {path}"), open(path, newline="", encoding="utf-8-sig") as f:
        table = csv.DictReader(f)
        try:
            return [(str.strip(row["label"]), row["youtube_id"] + "_{:06d}_{:06d}".format(
                int(row["time_start"]), int(row["time_end"]))) for row in table]
        except (KeyError, TypeError, ValueError, csv.Error) as e:
            raise UserError(f"line {table.line_num} of {path} is no row of Kinetics-400: {e!r:.90}") from None


def kinetics400(root, split, classes=400, chosen="1", suffixes=SUFFIXES):
    """([Video], names not on disk, {class: id}) of kinetics-400_<split>.csv, or of the csv file `chosen`.
    Videos are <split>/<id>_<start>_<end>.mp4, or the same below a folder for each class. Ids are alphabetical
    over the 400 names for 400 classes, otherwise over the names of the training list, or where that has
    another count, of `chosen`. Raises UserError, also for a row of a class that is none of them."""
    root = Path(root)
    rows = kinetics400_rows(root / f"kinetics-400_{split}.csv" if chosen.isdigit() else chosen)
    names, training = read_lines(KINETICS400), root / "kinetics-400_train.csv"
    if classes != len(names):
        names = sorted({name for name, _ in (kinetics400_rows(training) if training.exists() else rows)})
        if len(names) != classes and not chosen.isdigit():
            names = sorted({name for name, _ in rows})
    labels = {name: label for label, name in enumerate(names)}
    if strange := sorted({name for name, _ in rows} - set(names)):
        raise UserError(f"{strange[0]} of the {split} list is none of the {len(names)} classes; "
                        "num_classes (class_num) is 400 for Kinetics-400's, else the training list's")
    folders = [folder for folder in (root / split, *(root / split).glob("*")) if folder.is_dir()]
    files = [path for folder in folders for path in video_files(folder, suffixes)]
    there = {path.stem if path.suffix.lower() in suffixes else path.name: path for path in files}
    return on_disk(root, split, [(name, stem, there.get(stem)) for name, stem in rows], labels)


def labelled(root, kind, split, classes, chosen="1", suffixes=SUFFIXES):
    """([Video], names not on disk, {class: id}) of a data set by its name in the YAML files, or UserError."""
    if not Path(root).is_dir():
        raise UserError(f"no {kind} data set at {root}: {REMEDY}")
    if kind not in ("Kinetic400", "Kinetics400", "UCF101"):
        raise UserError(f"dataset.type must be Kinetic400, UCF101 or HMDB51, not {kind}")
    found = ucf101(root, split, chosen) if kind == "UCF101" else (
        kinetics400(root, split, classes, chosen, suffixes))
    if len(found[2]) != classes:
        raise UserError(f"{len(found[2])} classes in {split} of {root}, num_classes (class_num) is {classes}")
    return found


def write_label_map(path, labels):
    """Write {class: id} as JSON beside the checkpoint or exported file `path`, whole or not at all; without
    labels remove what an earlier file of that name has left. Raises UserError."""
    path = Path(f"{str(path).removesuffix('.ckpt')}.labels.json")  # a.labels.json, but of a.onnx its own
    if labels:
        write_text(path, json.dumps(labels, indent=1, ensure_ascii=False) + "\n")
    elif path.exists():
        path.unlink()
        print(f"removed {path}: it told the classes of what was there before")


def read_label_map(path):
    """{class: id} from beside the checkpoint or exported file, None where there is none. Raises UserError."""
    path = Path(f"{str(path).removesuffix('.ckpt')}.labels.json")
    with explain((OSError, TypeError, ValueError), f"cannot read the label map {path}"):
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def check_labels(source, kept, labels):
    """Raise UserError where {class: id} `kept` of `source` is not `labels`, with the first difference."""
    for name in [*kept, *labels]:
        if kept.get(name) != labels.get(name):
            raise UserError(f"{source} differs from the data set's: class {name} is "
                            f"{kept.get(name, 'missing')} there and {labels.get(name, 'missing')} here")
