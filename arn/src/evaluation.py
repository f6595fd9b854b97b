"""Few-shot accuracy: every clip is encoded once, then episodes are scored on the encoded clips."""

from functools import lru_cache
from itertools import chain

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from tqdm import tqdm

from shared_utils import device
from shared_utils.clips import prefetch
from shared_utils.config import UserError
from shared_utils.video import VideoError
from src.episodes import check_classes, draw_episode

PARTS, PAIRS = 4, 32  # parts of a call of Relations, pairs in each


def first_clip(videos):
    """The first readable clip (3, T, H, W) of a split. Raises UserError where there is none."""
    for path in chain(*videos.paths):
        try:
            return videos.reader.clip(path)
        except VideoError as error:
            videos.bad.report(error)
    raise none_readable(videos)


def encode(network, videos, batch_size, progress=False):
    """Descriptors (N, C, C) float32 of all N videos, class after class, and (N,) bool: which could be read.

    Every video is decoded and encoded once, by one of the ranks; a bad one is told by `videos.bad`, its
    descriptor is zero. Raises UserError where none can be read.
    """
    every, (rank, ranks) = list(chain(*videos.paths)), device.ranks()
    paths = every[rank::ranks]

    def read(path):
        try:
            return videos.reader.clip(path)
        except VideoError as error:
            videos.bad.report(error)
            return None

    network.set_train(False)
    parts, good, batch, workers = [], [], [], videos.reader.workers
    bar = None if progress else True  # None: a bar on a terminal alone
    clips = prefetch(read, paths, workers, max(batch_size, workers))
    for clip in tqdm(clips, "encoding", len(paths), unit="video", disable=bar):
        good.append(clip is not None)
        if progress and (len(good) % max(1, len(paths) // 20) == 0 or len(good) == len(paths)):
            tqdm.write(f"eval: {min(len(good) * ranks, len(every))}/{len(every)}")
        if clip is not None:
            batch.append(clip)
        if batch and (len(batch) == batch_size or len(good) == len(paths)):
            padded = batch + [batch[-1]] * (batch_size - len(batch))  # one shape, one compiled graph
            parts.append(network.descriptor(ms.Tensor(np.stack(padded))).asnumpy()[: len(batch)])
            batch = []
    descriptors, good = np.zeros((len(paths), *[network.channels] * 2), np.float32), np.array(good, bool)
    if parts:
        descriptors[good] = np.concatenate(parts)
    good = device.all_gather(good.astype(np.float32), len(every)) > 0
    if not good.any():
        raise none_readable(videos)
    return device.all_gather(descriptors, len(every)), good


def none_readable(videos):
    """The UserError of a split without a readable video."""
    return UserError(f"none of the {sum(map(len, videos.paths))} videos can be decoded")


class Relations(nn.Cell):
    """Scores (PARTS * PAIRS,) of pairs (PARTS * PAIRS, 2, C, C), by a relation network part after part.

    MindSpore 2.7.2 runs a graph of up to 100 kernels in the calling thread where cores are few; it spins
    while the workers compute. Four parts are more: on two cores a pair takes 0.5 to 0.8 of the time.
    """

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, pairs):
        parts = [self.network(pairs[part * PAIRS : (part + 1) * PAIRS]) for part in range(PARTS)]
        return ops.concat(parts)


@lru_cache(maxsize=1)
def relations(network):
    """The Relations of a relation network, one for all validations of a training: it is compiled once."""
    return Relations(network)


class EncodedVideos:
    """The videos of a split as descriptors, ready for any number of episodes.

    A bad video counts as wrong: as a query it has no prediction, in a support it adds nothing, and a class
    whose whole support is bad is never predicted. With `leave_out_bad` bad videos are in no episode.
    """

    def __init__(self, network, videos, batch_size, leave_out_bad=False, progress=False):
        self.relations, self.names = relations(network.relation), videos.names
        self.descriptors, self.good = encode(network, videos, batch_size, progress)
        owner = np.repeat(np.arange(len(videos.paths)), [len(paths) for paths in videos.paths])
        usable = self.good if leave_out_bad else np.ones_like(self.good)
        self.rows = [np.flatnonzero(usable & (owner == label)) for label in range(len(videos.paths))]
        groups = np.concatenate(videos.groups)
        self.groups = [groups[rows] for rows in self.rows]

    def episodes(self, way, shot, query, count, seed):
        """True and predicted class ids of `count` episodes, each (count, way * query); -1: no prediction.

        Each rank plays its share of them. Raises UserError where the videos are too few.
        """
        check_classes(self.groups, way, shot, query, self.names)
        rank, ranks = device.ranks()
        numbers = range(rank, max(count, ranks), ranks)  # one at least, which counts for nothing
        played = self._play([draw_episode(self.groups, way, shot, query, seed, number) for number in numbers])
        return device.all_gather(played.astype(np.float32), count).astype(np.int64).swapaxes(0, 1)

    def _play(self, drawn):
        """(E, 2, way * query): true and predicted class ids of the episodes."""
        classes = np.stack([episode.classes for episode in drawn])  # (E, way)
        support = np.stack(
            [self._rows(episode.classes, episode.support) for episode in drawn]
        )  # (E, way, shot)
        asked = np.stack([self._rows(episode.classes, episode.query) for episode in drawn])  # (E, way, query)
        (count, way, shot), query = support.shape, asked.shape[2]
        pairs = np.empty((count, way * query, way, shot + 1), np.int32)
        pairs[..., :shot] = np.sort(support, axis=2)[:, None]
        pairs[..., shot] = asked.reshape(count, -1, 1)
        scores = self._relate(pairs.reshape(-1, shot + 1)).reshape(count, way * query, way)
        predictions = np.take_along_axis(classes, scores.argmax(2), axis=1)
        return np.stack([np.repeat(classes, query, axis=1), np.where(scores.max(2) < 0, -1, predictions)], 1)

    def _rows(self, classes, chosen):
        return np.stack([self.rows[label][videos] for label, videos in zip(classes, chosen)])

    def _relate(self, pairs):
        """Scores (P,) of rows (support..., query) of descriptors, -1 for bad ones; equal rows count once."""
        unique, where = np.unique(pairs, axis=0, return_inverse=True)
        scores = np.empty(len(unique), np.float32)
        batch = np.empty((PARTS * PAIRS, 2, *self.descriptors.shape[1:]), np.float32)
        for start in range(0, len(unique), len(batch)):
            rows = unique[start : start + len(batch)]
            shots = np.maximum(1, self.good[rows[:, :-1]].sum(1))[:, None, None]
            batch[: len(rows), 0] = self.descriptors[rows[:, :-1]].sum(1) / shots
            batch[: len(rows), 1] = self.descriptors[rows[:, -1]]
            scores[start : start + len(rows)] = self.relations(ms.Tensor(batch)).asnumpy()[: len(rows)]
        if not np.isfinite(scores).all():
            raise UserError("scores of the relation network are not finite: broken weights?")
        scores[~self.good[unique[:, -1]] | ~self.good[unique[:, :-1]].any(1)] = -1
        return scores[where.ravel()]


def accuracy(labels, predictions):
    """(mean, half width of the 95% interval) over episodes of the share of queries that are right."""
    return mean_interval((labels == predictions).mean(1))


def mean_interval(values):
    """Mean of (N,) values and half its 95% interval, 1.96 standard errors (nan for one value)."""
    values = np.asarray(values, dtype=np.float64)
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return float(values.mean()), float(half)
