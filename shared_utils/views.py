"""Multi-view evaluation: the mean answer of a network over the views of each video, in bounded memory."""
from collections import deque
from types import SimpleNamespace

import numpy as np

from shared_utils import sampling, transforms
from shared_utils.clips import ahead
from shared_utils.config import UserError
from shared_utils.video import VideoError, decode


def video_answers(answer, reader, paths, clips, crops, batch):
    """Mean answer over the clips * crops views of each video: yields (K,), or its VideoError, in order.

    `answer`: function of views (batch, 3, T, H, W) to (batch, K); the last batch is filled up with copies.
    Each video is decoded once. In memory are about `batch` views ready and `batch` in use, and the frames of
    the videos being read, already resized where resizing is the first operation. Raises UserError.
    """
    if min(clips, batch) < 1:
        raise UserError(f"num_clips and batch_size must be at least 1, not {clips} and {batch}")
    data, rng = reader.dataset, np.random.default_rng(0)
    resize, cuts = transforms.views(reader.operations, crops)

    def read(path):
        def choose(count):
            views = sampling.views(data.seq_mode, count, data.seq, data.frame_interval, clips)
            frames, places = np.unique(views, return_inverse=True)
            chosen.append(places.reshape(clips, data.seq))
            return frames

        chosen = []  # by the last decoder that was asked
        try:
            return decode(path, choose, each=resize), chosen[-1], None
        except VideoError as error:
            return None, (), error

    def requests():
        for frames, places, error in ahead(read, paths, reader.workers, reader.workers):
            video = SimpleNamespace(total=0.0, missing=0 if error else clips * crops, error=error)
            yield from ((video, cut, row, frames) for row in places for cut in cuts)
            if error:
                yield video, None, None, None

    def view(request):
        video, cut, row, frames = request
        return video, None if cut is None else cut(frames[row], rng)

    def flush():
        rows = np.stack([row for _, row in waiting])
        filled = np.concatenate([rows, rows[-1:].repeat(batch - len(rows), 0)]) if len(rows) < batch else rows
        for (video, _), row in zip(waiting, answer(filled)):
            video.total, video.missing = video.total + row.astype(np.float64), video.missing - 1
        waiting.clear()

    videos, waiting = deque(), []
    for video, row in ahead(view, requests(), reader.workers, batch):
        if not videos or videos[-1] is not video:
            videos.append(video)
        if row is not None:
            if waiting and waiting[-1][1].shape != row.shape:
                flush()  # without a crop every video has its own size
            waiting.append((video, row))
            if len(waiting) == batch:
                flush()
        while videos and videos[0].missing == 0:
            done = videos.popleft()
            yield done.error or done.total / (clips * crops)
    if waiting:
        flush()
    yield from (video.error or video.total / (clips * crops) for video in videos)
