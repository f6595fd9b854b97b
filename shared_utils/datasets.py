"""Video data sets as published, on disk: which videos there are, of which class, in which split."""
import contextlib
import json
import os
import re
import sys
import threading
from collections import namedtuple
from pathlib import Path

from shared_utils.config import UserError
from shared_utils.video import SUFFIXES

REMEDY = (
    "name yours by data_loader.train.dataset.path and data_loader.eval.dataset.path; UCF101 is at "
    "https://www.crcv.ucf.edu/data/UCF101.php, a synthetic one is made by python ci/synthetic_videos.py DIR"
)

# id: unique in the data set, "Class/v_Class_g01_c01"; path: a video file, or a folder of its frames as JPEG.
Video = namedtuple("Video", "id path label")


def class_folders(root):
    """{class: [path]} of a data set with one folder a class, both sorted; the class is the folder's name.

    A video is a file with a known suffix or a folder of JPEG frames. Folders without videos are passed over.
    Raises UserError where there is no such folder or no video in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"no data set, one folder of videos for each class, at {root}: {REMEDY}")
    found = {}
    for folder in sorted(entry for entry in root.iterdir() if entry.is_dir()):
        if paths := video_files(folder):
            found[folder.name] = paths
    if not found:
        raise UserError(f"no videos in {root}: one folder for each class is expected, {', '.join(SUFFIXES)}")
    return found


def video_files(folder):
    """Paths of the videos in one folder, sorted: files with a known suffix, folders of JPEG frames."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if _is_video(entry))
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}: {error.strerror}") from None


def _is_video(entry):
    if entry.name.startswith("."):
        return False
    if entry.is_dir():
        return any(name.endswith(".jpg") for name in os.listdir(entry.path))
    return entry.name.lower().endswith(SUFFIXES)


def video_id(path):
    """"Class/name" of a video's path, the same for the file and for the folder of its frames."""
    path = Path(path)
    stem = path.stem if path.suffix.lower() in SUFFIXES else path.name
    return f"{path.parent.name}/{stem}"


def group(path):
    """The recording that a clip is from: "Class/g07" by UCF101's _gNN_, else the video's own id."""
    identity = video_id(path)
    found = re.search(r"_(g\d+)_c\d+$", identity)
    return f"{identity.split('/')[0]}/{found[1]}" if found else identity


def class_split(folders, names):
    """The part of {class: [path]} whose classes are in `names`, in the order of `names`.

    Classes of the list that are not on disk are left out; at least one must be there. Raises UserError.
    """
    found = {name: folders[name] for name in names if name in folders}
    if not found:
        first = next(iter(folders))
        raise UserError(f"none of the {len(names)} classes ({names[0]}, ...) is on disk ({first}, ...)")
    return found


def read_lines(path):
    """The lines of a text file without blank ones. Raises UserError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise UserError(f"{path} is empty")
    return lines


def ucf101_labels(root):
    """{class: id} of UCF101 from ucfTrainTestlist/classInd.txt, whose ids begin with 1; ours with 0."""
    labels = {}
    for line in read_lines(Path(root) / "ucfTrainTestlist" / "classInd.txt"):
        number, _, name = line.partition(" ")
        if not number.isdigit() or not name:
            raise UserError(f"classInd.txt of {root}: {line!r} is not `<number> <class>`")
        labels[name.strip()] = int(number) - 1
    return labels


def ucf101(root, split, list_number=1):
    """([Video], names not on disk) of UCF101's official list `split` (train, test) number 1, 2 or 3.

    The label is classInd.txt's for the folder, as the lists have it. Raises UserError.
    """
    labels = ucf101_labels(root)
    videos, missing = [], []
    for line in read_lines(Path(root) / "ucfTrainTestlist" / f"{split}list{list_number:02d}.txt"):
        relative = line.rsplit(" ", 1)[0] if split == "train" else line
        path = Path(root) / relative
        if not path.is_file() and path.with_suffix("").is_dir():
            path = path.with_suffix("")
        if not path.exists():
            missing.append(relative)
        elif path.parent.name not in labels:
            raise UserError(f"{relative} of the {split} list: classInd.txt has no class {path.parent.name}")
        else:
            videos.append(Video(video_id(path), path, labels[path.parent.name]))
    if not videos:
        raise UserError(f"none of the {len(missing)} videos of the {split} list is in {root}")
    return videos, missing


def write_label_map(path, labels):
    """Write {class: id} as JSON, to stand beside a checkpoint, whole or not at all. Raises UserError."""
    temporary = Path(path).with_name(f".{Path(path).name}-{os.getpid()}")
    try:
        temporary.write_text(json.dumps(labels, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"cannot write the label map {path}: {error.strerror}") from None


def read_label_map(path):
    """{class: id} from the file `path`. Raises UserError."""
    try:
        return dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise UserError(f"cannot read the label map {path}: {error}") from None


def check_label_map(path, labels):
    """Raise UserError where the label map in the file `path` is not `labels`, with the first difference."""
    kept = read_label_map(path)
    if kept == labels:
        return
    for name in [*kept, *labels]:
        if kept.get(name) != labels.get(name):
            raise UserError(f"the label map {path} differs from the data set's: class {name} is "
                            f"{kept.get(name, 'missing')} there and {labels.get(name, 'missing')} here")


class BadVideos:
    """Counts the videos that cannot be decoded, from any thread, and tells each once with its reason."""

    def __init__(self, limit):
        self.limit, self.paths, self.lock = limit, set(), threading.Lock()

    def report(self, error):
        """Note the VideoError `error`. Raises UserError when more than `limit` files were bad."""
        with self.lock:
            if error.path in self.paths:
                return
            self.paths.add(error.path)
            print(f"bad video {len(self.paths)}: {error}", file=sys.stderr, flush=True)
            if len(self.paths) > self.limit:
                raise UserError(f"{len(self.paths)} bad videos, max_bad_videos is {self.limit}; {error}")


class Reading:
    """Calls `read` in a data set's workers and keeps its UserError, which would drown in a page of text."""

    def __init__(self, read):
        self.read, self.error = read, None

    def __call__(self, *columns):
        try:
            return self.read(*columns)
        except UserError as error:
            self.error = self.error or error
            raise

    @contextlib.contextmanager
    def errors(self):
        """Around the use of the data set: raises the UserError that ended it, as it was."""
        try:
            yield
        except RuntimeError:
            if self.error:
                raise self.error from None
            raise
