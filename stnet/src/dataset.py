"""Videos in, super-images out: what train.py, eval.py and infer.py read.

A video is a file, a folder of its frames as preprocess_ucf101.py makes it, or a pickle as video2pkl.py does.
"""

import os
import pickle
import re
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np

from shared_utils import datasets, transforms, video
from shared_utils.clips import BadVideos, Samples
from shared_utils.config import UserError
from shared_utils.video import SUFFIXES, VideoError
from src import memory

TYPES = {"ucf101": "UCF101", "kinetics400": "Kinetics400"}  # by dataset_type, in the words of datasets


def segment_frames(count, T, N, rng=None):
    """Frame indices (T, N) int64: N successive frames of each of T equal segments of `count` frames.

    They begin at a random place of the segment, without `rng` in its middle. A short video begins again at
    the start (Section 4.1; the published ports do the same).
    """
    if min(count, T, N) < 1:
        raise ValueError(f"{T} segments of {N} frames cannot be taken from {count} frames")
    length = count // T
    spare = max(0, length - N)
    within = np.full(T, spare // 2) if rng is None else rng.integers(spare + 1, size=T)
    starts = np.arange(T) * max(1, length) + within
    return (starts[:, None] + np.arange(N)) % count


def super_images(frames, T, N, tables):
    """(T * N, H, W, 3) uint8 -> (T, 3N, H, W) float32, channel 3n + c is colour c of the n-th frame.

    `tables`: (3, 256) float32, what becomes of the values of each colour.
    """
    planes = memory.empty((T * N, 3, frames[0, ..., 0].size))
    transforms.look_up(frames, tables, planes.swapaxes(0, 1))
    return planes.reshape(T, 3 * N, *frames.shape[1:3])


class _PlainUnpickler(pickle.Unpickler):
    """Reads containers, text, bytes and numbers; a pickle that asks for anything to call is refused."""

    def find_class(self, module, name):
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes by the published protocol 2
            return lambda text, encoding: text.encode("latin1")
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which plain data does not need")


def read_pickle(path):
    """(video id, [JPEG file of each frame as bytes], label) of a pickle. Raises VideoError.

    The published script writes the label before the frames; that order is read as well.
    """
    try:
        with open(path, "rb") as file:
            found = _PlainUnpickler(file, encoding="bytes").load()
    except (
        OSError,
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        IndexError,
        KeyError,
        AttributeError,
        MemoryError,
        OverflowError,
    ) as error:
        raise VideoError(path, f"no pickle of frames: {error}") from None
    by_kind = {type(part): part for part in found} if isinstance(found, tuple) else {}
    name, frames, label = (by_kind.get(kind) for kind in (str, list, int))
    name = by_kind[bytes].decode(errors="replace") if bytes in by_kind else name
    if len(by_kind) != 3 or None in (name, frames, label) or not all(isinstance(x, bytes) for x in frames):
        raise VideoError(path, "a pickle holds (video id, [JPEG bytes, ...], label)")
    return name, frames, label


def decode(path, choose, each=np.asarray, label=None):
    """Frames choose(frame count) of a video: (len, H, W, 3) uint8, each through `each`. Raises VideoError.

    A pickle must carry `label` where one is given.
    """
    if path.suffix != ".pkl":
        return video.decode(path, choose, each=each)
    _, jpegs, told = read_pickle(path)
    if label not in (None, told):
        raise VideoError(path, f"labelled {told}, the list says {label}")
    return video.decode(path, choose, each=each, jpegs=jpegs)


class ClipReader:
    """How super-images are read from a video: `training` at random, otherwise always the same."""

    def __init__(self, config, training=False):
        """Raises UserError."""
        self.T, self.N = config.T, config.N
        if min(self.T, self.N, config.short_size, config.target_size) < 1:
            raise UserError("T, N, short_size and target_size must be at least 1")
        self.workers = max(1, min(config.workers, os.cpu_count()))
        size = [config.target_size] * 2
        self.resize = partial(transforms.short_edge_resize, rng=None, size=config.short_size)
        if config.squash:
            self.resize = partial(transforms.resize, rng=None, size=[config.short_size] * 2)
        flip = {"type": "VideoRandomHorizontalFlip", "prob": config.horizontal_flip}
        cut = [{"type": "VideoRandomCrop", "size": size}, flip]
        cut = cut if training else [{"type": "VideoCenterCrop", "size": size}]
        self.cut = transforms.compose(cut, None)
        try:
            mean, std = (
                np.float32(list(three)).reshape(3) for three in (config.image_mean, config.image_std)
            )
        except (TypeError, ValueError):
            raise UserError("image_mean and image_std are three numbers each, of red, green, blue") from None
        if std.min() <= 0:
            raise UserError(f"image_std must be above 0, not {list(config.image_std)}")
        shades = np.arange(256, dtype=np.float32) * np.float32(1 / 255)
        self.tables = np.stack([(shades - mean[colour]) / std[colour] for colour in range(3)])

    def frames(self, path, rng=None, each=np.asarray, label=None):
        """The frames (T * N, H, W, 3) uint8 of the segments. Raises VideoError."""
        return decode(path, lambda count: segment_frames(count, self.T, self.N, rng).ravel(), each, label)

    def clip(self, path, rng=None, label=None):
        """Super-images (T, 3N, H, W) float32, what is random drawn from `rng`. Raises VideoError."""
        frames = self.frames(path, rng, lambda frame: self.resize(frame[None])[0], label)
        return super_images(self.cut(frames, rng or np.random.default_rng(0)), self.T, self.N, self.tables)


def listed(config, split):
    """([datasets.Video], names not on disk, {class: id}, list) of a split of the data set. Raises UserError.

    Splits are those of the data set, and of ucf101 also `val`, see `val_groups`.
    """
    if config.dataset_type not in TYPES:
        raise UserError(f"dataset_type must be {' or '.join(TYPES)}, not {config.dataset_type}")
    if not Path(config.dataset_path).is_dir():
        raise UserError(
            f"no {config.dataset_type} data set at {config.dataset_path}: name yours by --dataset_path=...; "
            "UCF101 is at https://www.crcv.ucf.edu/data/UCF101.php, ci/synthetic_videos.py makes others"
        )
    held_out = config.dataset_type == "ucf101" and config.val_groups > 0 and not config.local_val_list
    source = "train" if held_out and split == "val" else split
    own = config.local_train_list if source == "train" else config.local_val_list
    kind, chosen = TYPES[config.dataset_type], own or config.dataset_list
    videos, missing, labels = datasets.labelled(
        config.dataset_path, kind, source, config.class_num, chosen, (*SUFFIXES, ".pkl")
    )
    if held_out and split in ("train", "val"):
        unseen = validation_groups(videos, config.val_groups)
        videos = [video for video in videos if (group(video) in unseen) == (split == "val")]
        if not videos:
            raise UserError(f"val_groups {config.val_groups} leaves no video for {split}")
    official = {"ucf101": f"{source}list{chosen:0>2}.txt", "kinetics400": f"kinetics-400_{source}.csv"}
    return videos, missing, labels, own or official[config.dataset_type]


def group(video):
    """(class, recording) of a UCF101 video, of its own where the name tells none."""
    found = re.search(r"_(g\d+)_c\d+$", video.id)
    return video.label, found[1] if found else video.id


def validation_groups(videos, count):
    """The last `count` recordings of each class, fewer where a class would be left without a video."""
    groups = defaultdict(set)
    for item in videos:
        groups[item.label].add(group(item))
    return {name for names in groups.values() for name in sorted(names)[1:][-count:]}


class LabelledVideos:
    """The videos of a split: videos: [datasets.Video]; labels: {class: id}; names: class names by id; reader:
    their ClipReader; bad: their BadVideos; list: the file that names them."""

    def __init__(self, config, split, training=False):
        """Raises UserError."""
        self.reader = ClipReader(config, training)
        self.videos, missing, self.labels, self.list = listed(config, split)
        self.names = sorted(self.labels, key=self.labels.get)
        self.bad = BadVideos(config.max_bad_videos, missing)


class TrainingClips(LabelledVideos):
    """The training clips in batches; steps: in an epoch."""

    def __init__(self, config, rank=0, ranks=1):
        """Raises UserError, also where the videos do not fill a step."""
        super().__init__(config, "train", training=True)
        self.seed, self.rank, self.ranks, self.clips = config.seed, rank, ranks, config.batch_size
        if self.clips < 1:
            raise UserError(f"batch_size must be at least 1, not {self.clips}")
        self.steps = len(self.videos) // (self.clips * ranks)
        if self.steps == 0:
            raise UserError(
                f"{len(self.videos)} training videos are fewer than the {self.clips * ranks} clips of a step"
            )

    def batches(self, first_step=0, sink=False):
        """(mindspore.dataset of clip (B, T, 3N, H, W) and label (B,), its Samples) from a step on.

        For sink mode MindSpore asks for shapes and types first, which takes samples, once; they come again.
        """
        samples = Samples(
            self.sample,
            len(self.videos),
            self.steps,
            self.reader.workers,
            self.clips,
            first_step,
            self.rank,
            self.ranks,
            self.seed,
        )
        rows = samples.dataset(["clip", "label"], memory.stack)
        if sink:
            rows.output_shapes(), rows.output_types()
            samples.position = first_step
        return rows, samples

    def sample(self, number):
        """(clip (T, 3N, H, W) float32, label int32) of video `number` % count, drawn from (seed, number).

        A bad video gives way to another of its class. Raises UserError where none can be read.
        """
        first, rng = self.videos[number % len(self.videos)], np.random.default_rng([self.seed, number])
        for item in self._candidates(first, rng):
            try:
                return self.reader.clip(item.path, rng, item.label), np.int32(item.label)
            except VideoError as error:
                self.bad.report(error)
        raise UserError(f"the class of {first.path} has no readable video")

    def _candidates(self, first, rng):
        yield first
        others = [item for item in self.videos if item.label == first.label and item is not first]
        yield from (others[place] for place in rng.permutation(len(others)))
