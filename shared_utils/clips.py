"""Clips from videos, and batches of them for training."""

import contextlib
import os
import sys
import threading

import mindspore.dataset as ds
import numpy as np

from shared_utils import datasets, sampling, transforms
from shared_utils.config import UserError
from shared_utils.video import VideoError, decode


class ClipReader:
    """How clips are read from a video, by data_loader.train or data_loader.eval."""

    def __init__(self, section):
        self.dataset, operations = section.dataset, section.map.operations
        self.transform, self.operations = transforms.compose(operations), operations
        if self.dataset.seq_mode not in sampling.MODES:
            raise UserError(
                f"seq_mode must be one of {', '.join(sampling.MODES)}, not {self.dataset.seq_mode}"
            )
        if self.dataset.seq < 1 or self.dataset.frame_interval < 1:
            raise UserError(
                f"seq and frame_interval must be at least 1, not {self.dataset.seq} and "
                f"{self.dataset.frame_interval}"
            )

    def frames(self, path, rng=None):
        """The sampled frames of a video as they are, (seq, H, W, 3) uint8. Raises VideoError."""
        dataset = self.dataset
        return decode(
            path,
            lambda count: sampling.sample(dataset.seq_mode, count, dataset.seq, dataset.frame_interval, rng),
        )

    def prepare(self, frames, rng=None):
        """Frames (T, H, W, 3) uint8 -> clip (3, T, H', W') float32."""
        return self.transform(frames, rng or np.random.default_rng(0))

    def clip(self, path, rng=None):
        """The clip of a video, what is random drawn from `rng`. Raises VideoError."""
        return self.prepare(self.frames(path, rng), rng)


class BadVideos:
    """Counts the videos that cannot be decoded, from any thread, and tells each once with its reason."""

    def __init__(self, limit, missing=()):
        """`missing`: names of videos that a list has and the disk has not; they count, told in one line."""
        self.limit, self.missing = limit, len(missing)
        self.paths, self.lock = set(), threading.Lock()
        if missing:
            print(
                f"{len(missing)} videos of the list are not on disk: {', '.join(missing[:3])}"
                f"{', ...; make check-data lists them all' if len(missing) > 3 else ''}",
                file=sys.stderr,
                flush=True,
            )
        self._check("")

    def report(self, error):
        """Note the VideoError `error`. Raises UserError when more than `limit` files were bad."""
        with self.lock:
            if error.path in self.paths:
                return
            self.paths.add(error.path)
            print(f"bad video {len(self.paths)}: {error}", file=sys.stderr, flush=True)
            self._check(f"; {error}")

    def _check(self, last):
        if len(self.paths) + self.missing > self.limit:
            missing = f" and {self.missing} missing" if self.missing else ""
            raise UserError(f"{len(self.paths)} bad{missing} videos, max_bad_videos is {self.limit}{last}")


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


def read_in_threads(rows, read, columns, workers):
    """(rows with `read` of each row's `number` as `columns`, its Reading), by at most `workers` threads."""
    # Threads, not processes: decoding and resizing release the interpreter's lock, and nothing is copied.
    ds.config.set_prefetch_size(2)
    reading = Reading(read)
    rows = rows.map(
        reading,
        input_columns=["number"],
        output_columns=columns,
        python_multiprocessing=False,
        num_parallel_workers=threads(workers),
    )
    return rows, reading


def threads(workers):
    """How many threads to start for `workers`: MindSpore refuses more than there are cores."""
    return max(1, min(workers, os.cpu_count()))


class TrainingClips:
    """Reads training samples: sample epoch * len(videos) + i is a clip of video i, drawn from (seed, sample).

    A bad video gives way to another of its class.
    """

    def __init__(self, videos, reader, bad, seed):
        """`videos`: [datasets.Video]; `reader`: ClipReader; `bad`: BadVideos."""
        self.videos, self.reader, self.bad, self.seed = videos, reader, bad, seed
        self.of_class = {}
        for number, video in enumerate(videos):
            self.of_class.setdefault(video.label, []).append(number)

    def __call__(self, sample):
        """(clip (3, T, H, W) float32, label int32). Raises UserError for a class without a readable video."""
        sample = int(sample)
        rng = np.random.default_rng([self.seed, sample])
        video = self.videos[sample % len(self.videos)]
        others = None
        while True:
            try:
                return self.reader.clip(video.path, rng), np.int32(video.label)
            except VideoError as error:
                self.bad.report(error)
                others = list(self.of_class[video.label]) if others is None else others
                others = [number for number in others if self.videos[number].path not in self.bad.paths]
                if not others:
                    raise UserError(f"the class of {video.path} has no readable video") from None
                video = self.videos[rng.choice(others)]


class SampleNumbers:
    """Samples of one rank, `batch` a step; each epoch is in an order drawn from (seed, epoch).

    Ranks share an epoch's order, so that the samples of a step depend on the global batch alone. What does
    not fill a last batch is left out.
    """

    def __init__(self, count, batch, steps, first_step=0, rank=0, ranks=1, seed=0, shuffle=True):
        self.count, self.batch, self.steps, self.position = count, batch, steps, first_step
        self.rank, self.ranks, self.seed, self.shuffle = rank, ranks, seed, shuffle

    def __len__(self):
        return self.steps * self.batch

    def __deepcopy__(self, memo):
        return self  # MindSpore copies its sources, and the copy would forget how far this one has come

    def __iter__(self):
        first = self.position
        self.position += self.steps
        order, drawn = None, None
        for step in range(first, first + self.steps):
            epoch, within = divmod(step, self.steps)
            if epoch != drawn:
                order, drawn = self._order(epoch), epoch
            start = (within * self.ranks + self.rank) * self.batch
            for number in order[start : start + self.batch]:
                yield (np.array(epoch * self.count + number),)

    def _order(self, epoch):
        if not self.shuffle:
            return np.arange(self.count)
        return np.random.default_rng([self.seed, epoch, 2**31]).permutation(self.count)


class LabelledVideos:
    """The videos of a split of a labelled data set.

    videos: [datasets.Video]; labels: {class: id}; names: class names by id; reader: their ClipReader;
    bad: their BadVideos.
    """

    def __init__(self, section, classes):
        """`section`: data_loader.train or data_loader.eval; `classes`: of the network. Raises UserError."""
        dataset = section.dataset
        self.reader = ClipReader(section)
        self.videos, missing, self.labels = datasets.labelled(
            dataset.path, dataset.type, dataset.split, classes, dataset.list
        )
        self.names = sorted(self.labels, key=self.labels.get)
        self.bad = BadVideos(dataset.max_bad_videos, missing)


class TrainingData:
    """Batches of a labelled data set's training clips; videos: LabelledVideos, steps: in an epoch."""

    def __init__(self, section, classes, accumulate, seed, rank=0, ranks=1):
        """`section`: data_loader.train; a step takes `accumulate` batches. Raises UserError."""
        self.videos, self.seed, self.rank, self.ranks = LabelledVideos(section, classes), seed, rank, ranks
        self.dataset, count = section.dataset, len(self.videos.videos)
        if min(self.dataset.batch_size, accumulate) < 1:
            raise UserError("data_loader.train.dataset.batch_size and train.accumulate must be at least 1")
        self.clips = self.dataset.batch_size * accumulate
        self.global_clips = self.clips * ranks
        self.steps = count // self.global_clips
        if self.steps == 0:
            raise UserError(f"{count} training videos are fewer than the {self.global_clips} clips of a step")

    def batches(self, first_step=0):
        """(mindspore.dataset of clip (clips, 3, T, H, W) and label (clips,), its Reading) from a step on."""
        videos = self.videos
        numbers = SampleNumbers(
            len(videos.videos),
            self.clips,
            self.steps,
            first_step,
            self.rank,
            self.ranks,
            self.seed,
            self.dataset.shuffle,
        )
        read = TrainingClips(videos.videos, videos.reader, videos.bad, self.seed)
        rows = ds.GeneratorDataset(numbers, ["number"], shuffle=False)
        rows, reading = read_in_threads(rows, read, ["clip", "label"], self.dataset.num_parallel_workers)
        return rows.batch(self.clips, drop_remainder=True), reading
