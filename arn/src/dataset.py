"""Videos in, episodes out: the data sets that train.py, eval.py and infer.py read."""

import re
from pathlib import Path

import numpy as np

from shared_utils import datasets
from shared_utils.clips import BadVideos, ClipReader, Samples
from shared_utils.config import UserError
from shared_utils.video import SUFFIXES, VideoError
from src.episodes import check_classes, draw_episode

SPLITS = Path(__file__).resolve().parents[1] / "splits"


def class_folders(root):
    """{class: [path]} of a data set with one folder a class, both sorted; the class is the folder's name.

    A video is a file with a known suffix or a folder of JPEG frames. Folders without videos, and hidden ones
    are passed over.
    Raises UserError where there is no such folder or no video in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"no data set, one folder of videos for each class, at {root}: {datasets.REMEDY}")
    found = {}
    for folder in sorted(entry for entry in root.iterdir() if entry.is_dir() and entry.name[0] != "."):
        if paths := datasets.video_files(folder):
            found[folder.name] = paths
    if not found:
        raise UserError(f"no videos in {root}: one folder for each class is expected, {', '.join(SUFFIXES)}")
    return found


def group(path):
    """The recording that a clip is from: "Class/g07" by UCF101's _gNN_, else the video's own id."""
    identity = datasets.video_id(path)
    found = re.search(r"_(g\d+)_c\d+$", identity)
    return f"{identity.split('/')[0]}/{found[1]}" if found else identity


def class_split(folders, names):
    """The part of {class: [path]} whose classes are in `names`, in the order of `names`.

    Classes of the list that are not on disk are left out, which is told; at least one must be there. Raises
    UserError.
    """
    found = {name: folders[name] for name in names if name in folders}
    if not found:
        first = next(iter(folders))
        raise UserError(f"none of the {len(names)} classes ({names[0]}, ...) is on disk ({first}, ...)")
    if absent := [name for name in names if name not in folders]:
        print(f"{len(absent)} of the {len(names)} classes are not on disk: {', '.join(absent[:3])}"
              + ", ..." * (len(absent) > 3))
    return found


class Videos:
    """The videos of a few-shot split by class.

    names: class names, id = position; paths: a list of video paths for each class; groups: for each class an
    array with the group (recording) of each video, which support and query never share.
    """

    def __init__(self, section, split):
        """`section`: data_loader.train or data_loader.eval; `split`: train, val or test. Raises UserError."""
        dataset = section.dataset
        folders = class_folders(dataset.path)
        if dataset.class_split:
            folders = class_split(folders, datasets.read_lines(_split_file(dataset.class_split, split)))
        self.names, self.paths = list(folders), list(folders.values())
        self.groups = [_groups(paths, dataset.distinct_groups) for paths in self.paths]
        self.reader, self.bad = clip_reader(section), BadVideos(dataset.max_bad_videos)

    def labels(self):
        """{class name: id}."""
        return {name: label for label, name in enumerate(self.names)}


def clip_reader(section):
    """The ClipReader of data_loader.train or data_loader.eval. Raises UserError."""
    if section.dataset.seq < 4:
        raise UserError(f"seq must be at least 4, not {section.dataset.seq}")
    return ClipReader(section)


def _groups(paths, distinct):
    keys = [group(path) if distinct else datasets.video_id(path) for path in paths]
    return np.unique(keys, return_inverse=True)[1]


def _split_file(class_split, split):
    """splits/<class_split>_<split>.txt beside the model, or <class_split>/<split>.txt where that is a
    folder. Raises UserError."""
    own, folder = SPLITS / f"{class_split}_{split}.txt", Path(class_split)
    if not own.is_file() and not folder.is_dir():
        known = ", ".join(sorted({path.stem.rpartition("_")[0] for path in SPLITS.glob("*_*.txt")}))
        raise UserError(f"class_split {class_split} is no folder and none of {known}, with split {split}")
    return own if own.is_file() else folder / f"{split}.txt"


class Episodes:
    """Reads training episodes: the columns of ARNLoss for episode `number`, a function of (seed, number)."""

    def __init__(self, videos, way, shot, query, seed, augmentation=None):
        """`augmentation`: a self_supervision.Augmentation or None. Raises UserError for too few videos."""
        check_classes(videos.groups, way, shot, query, videos.names)
        self.videos, self.way, self.shot, self.query = videos, way, shot, query
        self.seed, self.augmentation = seed, augmentation
        self.columns = ["clips", "augmented", "label", "time", "space"][: 5 if augmentation else 1]

    def __call__(self, number):
        """clips (way * (shot + query), 3, T, H, W) alone, or with augmented, label, time and space."""
        clips = self.clips(number)
        if self.augmentation is None:
            return (clips,)
        return (clips, *self.augmentation(clips, np.random.default_rng([self.seed, number, 2**31])))

    def clips(self, number):
        """(way * (shot + query), 3, T, H, W) float32: support, then queries, each sorted by class."""
        episode = draw_episode(self.videos.groups, self.way, self.shot, self.query, self.seed, number)
        support, query = [], []
        for label, *sides in zip(*episode):
            clips = self._read_class(
                label, *map(list, sides), np.random.default_rng([self.seed, number, label])
            )
            support += clips[: self.shot]
            query += clips[self.shot :]
        return np.stack(support + query)

    def _read_class(self, label, support, query, rng):
        """The clips of one class; a bad video gives way to another that the episode does not have."""
        clips, tried = [], set()
        for side, other in ((support, query), (query, support)):
            for place in range(len(side)):
                clip = None
                while clip is None:
                    try:
                        clip = self.videos.reader.clip(self.videos.paths[label][side[place]], rng)
                    except VideoError as error:
                        self.videos.bad.report(error)
                        tried.update(support, query)
                        side[place] = self._another(label, tried, other, rng)
                clips.append(clip)
        return clips

    def _another(self, label, tried, other, rng):
        groups = self.videos.groups[label]
        free = np.flatnonzero(~np.isin(groups, groups[other]) & ~np.isin(np.arange(len(groups)), list(tried)))
        if not len(free):
            raise UserError(f"class {self.videos.names[label]} has too few readable videos for an episode")
        return rng.choice(free)


def episode_dataset(episodes, workers, steps_per_epoch, first_step=0, rank=0, ranks=1):
    """(mindspore.dataset of training episodes, its Samples): step s of a rank is episode s * ranks + rank."""
    count = steps_per_epoch * ranks
    samples = Samples(episodes, count, steps_per_epoch, workers, None, first_step, rank, ranks)
    return samples.dataset(episodes.columns), samples
