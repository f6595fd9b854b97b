"""Multi-view evaluation: the mean answer of a network over the views of each video, in bounded memory."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from shared_utils import sampling, transforms
from shared_utils.video import VideoError, decode


def ahead(pool, function, items, depth):
    """function(item) of each item, in order, computed by the pool at most `depth` items ahead."""
    futures = deque()
    for item in items:
        futures.append(pool.submit(function, item))
        if len(futures) > depth:
            yield futures.popleft().result()
    while futures:
        yield futures.popleft().result()


def video_answers(answer, reader, paths, clips, crops, batch, workers):
    """Mean answer over the clips * crops views of each video: yields (K,), or its VideoError, in order.

    `answer`: function of views (batch, 3, T, H, W) to (batch, K); the last batch is filled up with copies.
    Each video is decoded once. In memory are about `batch` views ready and `batch` in use, and the frames of
    the videos being read, already resized where resizing is the first operation.
    """
    dataset = reader.dataset
    resize, cuts = transforms.views(reader.operations, crops)
    rng = np.random.default_rng(0)

    def read(path):
        def choose(count):
            views = sampling.views(dataset.seq_mode, count, dataset.seq, dataset.frame_interval, clips)
            chosen.append(np.unique(views, return_inverse=True))
            return chosen[-1][0]

        chosen = []
        try:
            frames = decode(path, choose, each=resize)
        except VideoError as error:
            return error, None
        return frames, chosen[-1][1].reshape(clips, dataset.seq)

    def requests():
        for frames, places in ahead(pool, read, paths, workers):
            if places is None:
                yield None, None, frames
            else:
                yield from ((cut, row, frames) for row in places for cut in cuts)

    def view(request):
        cut, row, frames = request
        return frames if cut is None else cut(frames[row], rng)

    with ThreadPoolExecutor(workers) as pool:
        yield from _means(answer, ahead(pool, view, requests(), batch), clips * crops, batch)


def _means(answer, views, count, batch):
    """The mean answer of each video from its `count` views in a row; a VideoError is a whole video."""
    videos, waiting = deque(), []  # videos: [sum of answers, views still missing] or a VideoError
    missing = 0  # views of the last video that have not come yet

    def flush():
        rows = np.stack([view for _, view in waiting])
        filled = np.concatenate([rows, rows[-1:].repeat(batch - len(rows), 0)]) if len(rows) < batch else rows
        for (video, _), row in zip(waiting, answer(filled)):
            video[0], video[1] = video[0] + row.astype(np.float64), video[1] - 1
        waiting.clear()

    for view in views:
        if isinstance(view, VideoError):
            videos.append(view)
        else:
            if waiting and waiting[-1][1].shape != view.shape:
                flush()  # without a crop every video has its own size
            if missing == 0:
                videos.append([0.0, count])
                missing = count
            waiting.append((videos[-1], view))
            missing -= 1
            if len(waiting) == batch:
                flush()
        while videos and (isinstance(videos[0], VideoError) or videos[0][1] == 0):
            yield _mean(videos.popleft(), count)
    if waiting:
        flush()
    yield from (_mean(video, count) for video in videos)


def _mean(video, count):
    return video if isinstance(video, VideoError) else video[0] / count
