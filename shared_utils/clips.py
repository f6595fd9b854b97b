"""Clips from videos: how they are read, which videos are bad, and the samples that training takes."""
import contextlib
import os
import sys
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import mindspore.dataset as ds
import numpy as np

from shared_utils import sampling, transforms
from shared_utils.config import UserError
from shared_utils.video import decode


class ClipReader:
    """How clips are read from a video, by data_loader.train or data_loader.eval."""

    def __init__(self, section, empty=np.empty):  # `empty`: makes the arrays of clips
        self.dataset = data = section.dataset
        self.operations, self.shape = section.map.operations, None  # the latter of the clips
        self.prepare = transforms.compose(self.operations, empty=empty)  # frames, rng -> (3, T, H', W')
        self.workers = max(1, min(data.num_parallel_workers, os.cpu_count()))
        if data.seq_mode not in sampling.MODES or min(data.seq, data.frame_interval) < 1:
            raise UserError(f"seq_mode must be one of {', '.join(sampling.MODES)}, seq and frame_interval at "
                            f"least 1, not {data.seq_mode}, {data.seq} and {data.frame_interval}")

    def frames(self, path, rng=None):
        """The sampled frames of a video as they are, (seq, H, W, 3) uint8. Raises VideoError."""
        mode, seq, step = self.dataset.seq_mode, self.dataset.seq, self.dataset.frame_interval
        return decode(path, lambda count: sampling.sample(mode, count, seq, step, rng))

    def clip(self, path, rng=None):
        """The clip (3, T, H', W') float32 of a video, what is random drawn from `rng`. Raises VideoError."""
        clip = self.prepare(self.frames(path, rng), rng or np.random.default_rng(0))
        self.shape = network_clip(clip, self.shape).shape
        return clip


def network_clip(clip, shape=None):
    """The clip as it is. Raises UserError where it is not (3, T, H, W), or not of the `shape` of others."""
    if clip.ndim != 4 or len(clip) != 3 or clip.shape != (shape or clip.shape):
        raise UserError(f"map.operations make clips {clip.shape}, not {shape or '(3, T, H, W)'}: "
                        "VideoToTensor or VideoReOrder order the axes, VideoResize or a crop sets the size")
    return clip


class BadVideos:
    """Counts the videos that cannot be decoded, from any thread, and tells each once with its reason."""

    def __init__(self, limit, missing=()):
        """`missing`: names of videos that a list has and the disk has not; they count, told in one line."""
        self.limit, self.missing, self.paths, self.lock = limit, len(missing), set(), threading.Lock()
        if missing:
            told = ", ".join([*missing[:3], *["...; make check-data lists them all"] * (len(missing) > 3)])
            print(f"{len(missing)} videos of the list are not on disk: {told}", file=sys.stderr, flush=True)
        self.report()

    def report(self, error=None):
        """Note the VideoError `error`. Raises UserError when more than `limit` files were bad."""
        with self.lock:
            if error and error.path not in self.paths:
                self.paths.add(error.path)
                print(f"bad video {len(self.paths)}: {error}", file=sys.stderr, flush=True)
            if len(self.paths) + self.missing > self.limit:
                gone, last = f" and {self.missing} missing" * bool(self.missing), f"; {error}" * bool(error)
                raise UserError(f"{len(self.paths)} bad{gone} videos, max_bad_videos is {self.limit}{last}")


def prefetch(function, items, workers, depth):
    """function(item) of each item, in order, by threads that are at most `depth` items ahead."""
    # Threads, not processes: decoding and resizing release the interpreter's lock, and nothing is copied.
    with ThreadPoolExecutor(workers) as pool:
        futures = deque()
        for item in items:
            futures.append(pool.submit(function, item))
            if len(futures) > depth:
                yield futures.popleft().result()
        yield from (future.result() for future in futures)


class Samples:
    """One rank's training samples read(number), tuples of arrays: one a step, or `batch` of them stacked, for
    which MindSpore takes five times as long. An epoch's order is drawn from (seed, epoch), without `seed` the
    data's, for all ranks; number is epoch * count + place in it. What does not fill a step is left out."""

    def __init__(self, read, count, steps, workers, batch=None, first_step=0, rank=0, ranks=1, seed=None):
        self.read, self.count, self.steps, self.workers, self.batch = read, count, steps, workers, batch
        self.position, self.rank, self.ranks, self.seed, self.error = first_step, rank, ranks, seed, None

    def dataset(self, columns, stack=np.stack):
        """The mindspore.dataset of the steps, an epoch each time it is iterated; `stack` makes batches."""
        self.stack = stack
        ds.config.set_prefetch_size(2)
        return ds.GeneratorDataset(self, columns, shuffle=False, python_multiprocessing=False)

    @contextlib.contextmanager
    def errors(self):
        """Around the use of the data set: raises the error of `read` that ended it, as it was."""
        try:
            yield
        except RuntimeError as error:  # in which it would drown in a page of text
            raise self.error or error from None

    def numbers(self):
        """The numbers of the next `steps` steps' samples."""
        self.position, drawn, size = self.position + self.steps, None, self.batch or 1
        for step in range(self.position - self.steps, self.position):
            epoch, within = divmod(step, self.steps)
            if epoch != drawn:
                rng = None if self.seed is None else np.random.default_rng([self.seed, epoch, 2**31])
                order, drawn = rng.permutation(self.count) if rng else np.arange(self.count), epoch
            start = (within * self.ranks + self.rank) * size
            yield from (epoch * self.count + int(place) for place in order[start:start + size])

    def __len__(self):
        return self.steps

    def __iter__(self):
        rows, size = prefetch(self._read, self.numbers(), self.workers, 2 * self.workers), self.batch
        return (tuple(map(self.stack, zip(*step))) for step in zip(*[rows] * size)) if size else rows

    def __deepcopy__(self, memo):
        return self  # MindSpore copies its sources, and the copy would forget how far this one has come

    def _read(self, number):
        try:
            return self.read(number)
        except Exception as error:
            self.error = self.error or error
            raise
