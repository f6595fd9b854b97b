"""Videos in, episodes out: the data sets that train.py, eval.py and infer.py read."""

from pathlib import Path

import mindspore.dataset as ds
import numpy as np

from shared_utils import datasets
from shared_utils.clips import BadVideos, ClipReader, read_in_threads
from shared_utils.config import UserError
from shared_utils.video import VideoError
from src.episodes import check_classes, draw_episode

SPLITS = Path(__file__).resolve().parents[1] / "splits"


class Videos:
    """The videos of a few-shot split by class.

    names: class names, id = position; paths: a list of video paths for each class; groups: for each class an
    array with the group (recording) of each video, which support and query never share.
    """

    def __init__(self, section, split):
        """`section`: data_loader.train or data_loader.eval; `split`: train, val or test. Raises UserError."""
        dataset = section.dataset
        folders = datasets.class_folders(dataset.path)
        if dataset.class_split:
            folders = datasets.class_split(
                folders, datasets.read_lines(_split_file(dataset.class_split, split))
            )
        self.names, self.paths = list(folders), list(folders.values())
        self.groups = [_groups(paths, dataset.distinct_groups) for paths in self.paths]
        if dataset.seq < 4:
            raise UserError(f"seq must be at least 4, not {dataset.seq}")
        self.reader, self.bad = ClipReader(section), BadVideos(dataset.max_bad_videos)

    def labels(self):
        """{class name: id}."""
        return {name: label for label, name in enumerate(self.names)}


def _groups(paths, distinct):
    keys = [datasets.group(path) if distinct else datasets.video_id(path) for path in paths]
    return np.unique(keys, return_inverse=True)[1]


def _split_file(class_split, split):
    """splits/<class_split>_<split>.txt beside the model, or <class_split>/<split>.txt where that is a
    folder."""
    own = SPLITS / f"{class_split}_{split}.txt"
    return own if own.is_file() else Path(class_split) / f"{split}.txt"


class Episodes:
    """Reads training episodes: the columns of ARNLoss for episode `number`, a function of (seed, number)."""

    def __init__(self, videos, way, shot, query, seed, augmentation=None):
        """`augmentation`: a self_supervision.Augmentation or None. Raises UserError for too few videos."""
        check_classes(videos.groups, way, shot, query, videos.names)
        self.videos, self.way, self.shot, self.query = videos, way, shot, query
        self.seed, self.augmentation = seed, augmentation
        self.columns = ["clips", "augmented", "label", "time", "space"][: 5 if augmentation else 1]

    def __call__(self, number):
        """clips (way * (shot + query), 3, T, H, W), and with an augmentation augmented, label, time,
        space."""
        number = int(number)
        clips = self.clips(number)
        if self.augmentation is None:
            return clips
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


class EpisodeNumbers:
    """Numbers of the episodes of one rank, epoch after epoch: step s takes episode s * ranks + rank."""

    def __init__(self, steps_per_epoch, first_step, rank, ranks):
        self.steps, self.position, self.rank, self.ranks = steps_per_epoch, first_step, rank, ranks

    def __len__(self):
        return self.steps

    def __deepcopy__(self, memo):
        return self  # MindSpore copies its sources, and the copy would forget how far this one has come

    def __iter__(self):
        first = self.position
        self.position += self.steps
        for step in range(first, first + self.steps):
            yield (np.array(step * self.ranks + self.rank),)


def episode_dataset(episodes, workers, steps_per_epoch, first_step=0, rank=0, ranks=1):
    """(mindspore.dataset of training episodes, its Reading): epochs of steps_per_epoch from first_step."""
    numbers = EpisodeNumbers(steps_per_epoch, first_step, rank, ranks)
    rows = ds.GeneratorDataset(numbers, ["number"], shuffle=False)
    return read_in_threads(rows, episodes, episodes.columns, workers)


def clip_dataset(paths, read, workers):
    """(mindspore.dataset of read(path) for each path: clip (3, T, H, W), is it good; its Reading)."""
    rows = ds.NumpySlicesDataset(np.arange(len(paths)), ["number"], shuffle=False)
    return read_in_threads(rows, lambda number: read(paths[int(number)]), ["clip", "good"], workers)
