"""Multi-view evaluation: the mean answer of a network over the views of each video, in bounded memory."""

from collections import Counter
from itertools import groupby, islice

import numpy as np

from shared_utils import sampling, transforms
from shared_utils.clips import network_clip, prefetch
from shared_utils.config import UserError
from shared_utils.video import VideoError, decode

MIRROR = {"type": "VideoRandomHorizontalFlip", "prob": 1.0}
CORNERS = [{"place": place} for place in ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5))]
# By the count of crops, for each of them: changes of VideoCenterCrop, and what comes after it.
CUTS = {
    1: [({},)],
    3: [({"place": (share, 0.5), "longer_first": True},) for share in (0, 0.5, 1)],
    10: [*((corner,) for corner in CORNERS), *((corner, MIRROR) for corner in CORNERS)],
}


def video_answers(answer, reader, paths, clips, crops, batch):
    """Mean answer over the clips * crops views of each video: yields (K,), or its VideoError, in order.

    `answer`: function of views (batch, 3, T, H, W) to (batch, K); the last batch is filled up with copies.
    Each video is decoded once. In memory are about `batch` views ready and `batch` in use, and the frames of
    the videos being read, already resized where resizing is the first operation. Raises UserError, also for
    an answer that is not finite.
    """
    if min(clips, batch) < 1:
        raise UserError(f"num_clips and batch_size must be at least 1, not {clips} and {batch}")
    done, sums, counts, following = {}, {}, Counter(), 0
    for views in _batches(_views(reader, paths, clips, crops, batch, done), batch):
        rows = np.stack([view for _, view in views])
        filled = np.concatenate([rows, rows[-1:].repeat(batch - len(rows), 0)])
        for (number, _), row in zip(views, answer(filled)):
            if not np.isfinite(row).all():
                raise UserError(f"what the network says of {paths[number]} is not finite: broken weights?")
            sums[number] = sums.get(number, 0) + row.astype(np.float64)
            counts[number] += 1
            if counts[number] == clips * crops:
                done[number] = sums.pop(number) / (clips * crops)
        while following in done:
            yield done.pop(following)
            following += 1
    yield from (done[number] for number in sorted(done))


def _views(reader, paths, clips, crops, depth, bad):
    """(number of the video, view (3, T, H, W)) of all videos; `bad` gets the VideoErrors by number."""
    resize, cuts = crop_functions(reader.operations, crops)
    data = reader.dataset

    def choose(count):
        return frames_of_clips(data.seq_mode, count, data.seq, data.frame_interval, clips).ravel()

    def read(path):
        try:
            frames = decode(path, choose, each=resize)
        except VideoError as error:
            return error
        return frames.reshape(clips, data.seq, *frames.shape[1:])

    def requests():
        for number, video in enumerate(prefetch(read, paths, reader.workers, reader.workers)):
            if isinstance(video, VideoError):
                bad[number] = video
            else:
                yield from ((number, cut, clip) for clip in video for cut in cuts)

    def view(request):
        number, cut, clip = request
        return number, network_clip(cut(clip, np.random.default_rng(0)))

    return prefetch(view, requests(), reader.workers, depth)


def _batches(views, size):
    """Lists of up to `size` views of one shape: without a crop every video has its own."""
    for _, run in groupby(views, key=lambda view: view[1].shape):
        while some := list(islice(run, size)):
            yield some


def frames_of_clips(mode, count, seq, frame_interval=1, clips=1):
    """Frame indices (clips, seq) of `clips` views in time; one is what sampling.sample gives without `rng`.

    Of part and interval the clips start evenly spaced, in the middle of equal parts of what training draws
    from; of average and discrete each takes every video's seq parts, at another place of the part.
    """
    if clips == 1:
        return sampling.sample(mode, count, seq, frame_interval)[None]
    place = (np.arange(clips)[:, None] + 0.5) / clips
    if mode in ("average", "discrete"):
        return np.floor((np.arange(seq) + place) * count / seq).astype(np.int64)
    step = frame_interval if mode == "interval" else 1
    starts = np.floor(place * (max(0, count - ((seq - 1) * step + 1)) + 1)).astype(np.int64)
    return (starts + step * np.arange(seq)) % count


def crop_functions(operations, crops):
    """How to make `crops` (1, 3 or 10) views in space of a clip, from the YAML's list of operations.

    Returns (function of one frame to apply as it is decoded, or None; [function (clip, rng) -> view of what
    remains]). VideoCenterCrop gives way to three crops along the longer edge, or to the four corners and the
    middle with their mirror images. A VideoRandomCrop, which the published r2plus1d YAML evaluates with, cuts
    the middle. Raises UserError where there is none, or for another count.
    """
    operations, resize = [dict(operation) for operation in operations], None
    for operation in operations:
        if operation["type"] == "VideoRandomCrop":
            operation["type"] = "VideoCenterCrop"
    if operations and operations[0]["type"] in ("VideoResize", "VideoShortEdgeResize"):
        resize = transforms.compose(operations[:1], None)
        operations = operations[1:]
    if crops not in CUTS:
        raise UserError(f"eval.num_crops must be 1, 3 or 10, not {crops}")
    if crops > 1 and [operation["type"] for operation in operations].count("VideoCenterCrop") != 1:
        raise UserError(f"{crops} crops need one VideoCenterCrop among data_loader.eval.map.operations")
    cuts = []
    for change, *mirror in CUTS[crops]:
        chain = []
        for operation in operations:
            crop = operation["type"] == "VideoCenterCrop"
            chain += [{**operation, **change}, *mirror] if crop else [operation]
        cuts.append(transforms.compose(chain))
    return resize and (lambda frame: resize(frame[None], None)[0]), cuts
