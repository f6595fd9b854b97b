"""What the network says of videos, each of them once."""

import mindspore as ms
import numpy as np
from scipy.special import softmax
from tqdm import tqdm

from shared_utils import device, metrics
from shared_utils.clips import prefetch
from shared_utils.config import UserError
from shared_utils.video import VideoError


def answers(answer, reader, videos, batch):
    """Answer (K,) of each of [(path, label or None)], or its VideoError, in order.

    `answer`: function of super-images (batch, T, 3N, H, W) to (batch, K); the last batch is filled up with
    copies. Raises UserError, also for an answer that is not finite.
    """
    if batch < 1:
        raise UserError(f"a batch has at least 1 clip, not {batch}")

    def read(item):
        try:
            return reader.clip(item[0], label=item[1])
        except VideoError as error:
            return error

    def flush():
        clips = [clip for clip in waiting if not isinstance(clip, VideoError)]
        rows = iter(())
        if clips:
            found = answer(np.stack([*clips, *[clips[-1]] * (batch - len(clips))]))
            if not np.isfinite(found).all():
                raise UserError("what the network says of a video is not finite: broken weights?")
            rows = iter(found)
        yield from (clip if isinstance(clip, VideoError) else next(rows) for clip in waiting)

    waiting, good = [], 0
    for clip in prefetch(read, videos, reader.workers, max(batch, reader.workers)):
        waiting.append(clip)
        good += not isinstance(clip, VideoError)
        if good == batch:
            yield from flush()
            waiting, good = [], 0
    yield from flush()


def probabilities(network, videos, batch, progress=True):
    """Probabilities (N, K) of a split's videos; a row of -1 for a bad video.

    `videos`: dataset.LabelledVideos. Each rank looks at its share of them, and gets the answers of all.
    Raises UserError.
    """
    network.set_train(False)
    rank, ranks = device.ranks()
    items = [(video.path, video.label) for video in videos.videos[rank::ranks]]
    rows, bad, every = [], np.full(len(videos.names), -1.0), max(1, len(items) // 20)

    def answer(clips):
        return softmax(np.float64(network(ms.Tensor(clips)).asnumpy()), axis=1)

    found = answers(answer, videos.reader, items, batch)
    for row in tqdm(found, "evaluation", len(items), unit="video", disable=None if progress else True):
        if isinstance(row, VideoError):
            videos.bad.report(row)
        rows.append(bad if isinstance(row, VideoError) else row)
        if progress and (len(rows) % every == 0 or len(rows) == len(items)):
            tqdm.write(f"eval: {min(len(rows) * ranks, len(videos.videos))}/{len(videos.videos)}")
    return device.all_gather(np.reshape(rows, (-1, len(videos.names))), len(videos.videos))


def top1(network, videos, batch):
    """Share of a split's videos whose class is the first guess; a bad video counts as wrong."""
    scores = probabilities(network, videos, batch, progress=False)
    labels = np.array([video.label for video in videos.videos])
    return float((metrics.top_k(scores, labels, 1) & (scores[:, 0] >= 0)).mean())
