"""What the network says of videos: the mean over the views of each, and the accuracy of that."""

import mindspore as ms
import numpy as np
from scipy.special import softmax
from tqdm import tqdm

from shared_utils import device, metrics
from shared_utils.video import VideoError
from src.views import video_answers


def probabilities(network, videos, section, progress=True):
    """Mean probabilities (N, K) of a split's videos over their views; a row of -1 for a bad video.

    `videos`: dataset.LabelledVideos; `section`: the YAML's eval, with num_clips, num_crops and batch_size.
    Each rank looks at its share of the videos, and gets the answers of all.
    """
    network.set_train(False)
    rank, ranks = device.ranks()
    paths = [video.path for video in videos.videos[rank::ranks]]
    rows, bad, every = [], np.full(len(videos.names), -1.0), max(1, len(paths) // 20)

    def answer(views):
        return softmax(np.float64(network(ms.Tensor(views)).asnumpy()), axis=1)

    means = video_answers(
        answer, videos.reader, paths, section.num_clips, section.num_crops, section.batch_size
    )
    for mean in tqdm(means, "evaluation", len(paths), unit="video", disable=None if progress else True):
        if isinstance(mean, VideoError):
            videos.bad.report(mean)
        rows.append(bad if isinstance(mean, VideoError) else mean)
        if progress and (len(rows) % every == 0 or len(rows) == len(paths)):
            tqdm.write(f"eval: {min(len(rows) * ranks, len(videos.videos))}/{len(videos.videos)}")
    return device.all_gather(np.reshape(rows, (-1, len(videos.names))), len(videos.videos))


def check_views(videos, section):
    """Make the views of the first video for nothing: raises UserError where they cannot be made."""
    views = (section.num_clips, section.num_crops, section.batch_size)
    paths = [video.path for video in videos.videos[:1]]
    next(video_answers(lambda batch: np.zeros((len(batch), 1)), videos.reader, paths, *views))


def top1(network, videos, section):
    """Share of a split's videos whose class is the first guess; a bad video counts as wrong."""
    scores = probabilities(network, videos, section, progress=False)
    labels = np.array([video.label for video in videos.videos])
    return float((metrics.top_k(scores, labels, 1) & (scores[:, 0] >= 0)).mean())
