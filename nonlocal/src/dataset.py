"""Videos in, clips out: what train.py, eval.py and infer.py read."""

from glob import escape
from pathlib import Path

import numpy as np

from shared_utils import datasets
from shared_utils.clips import BadVideos, ClipReader, Samples
from shared_utils.config import UserError
from shared_utils.datasets import read_lines
from shared_utils.video import VideoError
from src import memory


def hmdb51(root, kind, split, classes, chosen="1"):
    """([datasets.Video], names not on disk, {class: id}) of HMDB51, whose class ids are alphabetical.

    A folder of videos a class, and testTrainMulti_7030_splits/<class>_test_split<chosen>.txt, in which 1 is
    for training and 2 for testing. Raises UserError, also where the classes are not `classes`.
    """
    if split not in ("train", "val", "test"):
        raise UserError(f"split must be train or test of {kind}, not {split}")
    lists = sorted((Path(root) / "testTrainMulti_7030_splits").glob(f"*_test_split{escape(chosen)}.txt"))
    if not lists:
        raise UserError(f"no lists testTrainMulti_7030_splits/<class>_test_split{chosen}.txt in {root}")
    labels = {path.name.rsplit("_test_split", 1)[0]: label for label, path in enumerate(lists)}
    if len(labels) != classes:
        raise UserError(f"{root} has {len(labels)} classes of {kind}, but model.num_classes is {classes}")
    rows = [(name, line.rpartition(" ")) for path, name in zip(lists, labels) for line in read_lines(path)]
    use = "1" if split == "train" else "2"
    rows = [(name, f"{name}/{file.strip()}") for name, (file, _, number) in rows if number == use]
    return datasets.on_disk(root, split, [(name, row, Path(root, row)) for name, row in rows], labels)


class LabelledVideos:
    """The videos of a split of a labelled data set.

    videos: [datasets.Video]; labels: {class: id}; names: class names by id; reader: their ClipReader;
    bad: their BadVideos.
    """

    def __init__(self, section, classes):
        """`section`: data_loader.train or data_loader.eval; `classes`: of the network. Raises UserError."""
        self.reader, data = ClipReader(section, memory.empty), section.dataset
        if data.split == "val" and data.type in ("UCF101", "HMDB51"):
            print(f"note: {data.type} has no validation list, its test list is taken for val", flush=True)
        listed = hmdb51 if data.type == "HMDB51" else datasets.labelled
        self.videos, missing, self.labels = listed(data.path, data.type, data.split, classes, data.list)
        self.names = sorted(self.labels, key=self.labels.get)
        self.bad = BadVideos(data.max_bad_videos, missing)


class TrainingClips(LabelledVideos):
    """The clips of data_loader.train in batches; steps: in an epoch, each of train.accumulate batches."""

    def __init__(self, config, rank=0, ranks=1):
        """Raises UserError, also where the videos do not fill a step."""
        section, accumulate = config.data_loader.train, config.train.accumulate
        super().__init__(section, config.model.num_classes)
        if min(section.dataset.batch_size, accumulate) < 1:
            raise UserError("data_loader.train.dataset.batch_size and train.accumulate must be at least 1")
        self.seed, self.rank, self.ranks = config.seed, rank, ranks
        self.clips = section.dataset.batch_size * accumulate  # of a rank's step
        self.steps = len(self.videos) // (self.clips * ranks)
        if self.steps == 0:
            raise UserError(
                f"{len(self.videos)} training videos are fewer than the {self.clips * ranks} clips of a step"
            )

    def batches(self, first_step=0):
        """(mindspore.dataset of clip (clips, 3, T, H, W) and label (clips,), its Samples) from a step on."""
        seed = self.seed if self.reader.dataset.shuffle else None
        samples = Samples(self.sample, len(self.videos), self.steps, self.reader.workers, self.clips,
                          first_step, self.rank, self.ranks, seed)
        return samples.dataset(["clip", "label"], memory.stack), samples

    def sample(self, number):
        """(clip (3, T, H, W) float32, label int32) of video `number` % count, drawn from (seed, number).

        A bad video gives way to another of its class. Raises UserError where none can be read.
        """
        first, rng = self.videos[number % len(self.videos)], np.random.default_rng([self.seed, number])
        for video in self._candidates(first, rng):
            try:
                return self.reader.clip(video.path, rng), np.int32(video.label)
            except VideoError as error:
                self.bad.report(error)
        raise UserError(f"the class of {first.path} has no readable video")

    def _candidates(self, video, rng):
        yield video
        others = [other for other in self.videos if other.label == video.label and other is not video]
        yield from (others[place] for place in rng.permutation(len(others)))
