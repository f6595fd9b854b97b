"""Accuracy of a classifier over the views of each video."""
from pathlib import Path

import mindspore as ms
import numpy as np
from tqdm import tqdm

from shared_utils import metrics
from shared_utils.checkpoint import load_weights
from shared_utils.config import UserError
from shared_utils.datasets import check_label_map, label_map_of
from shared_utils.video import VideoError
from shared_utils.views import video_answers


def softmax(logits):
    """Probabilities (B, K) float64 of logits (B, K)."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def load_trained(network, path, labels):
    """Load the checkpoint `path`. Raises UserError, also where the label map beside it is not `labels`."""
    load_weights(network, path)
    if label_map_of(path).exists():
        check_label_map(label_map_of(path), labels)


def evaluate(network, videos, section, progress=True):
    """Mean probabilities (N, K) of a split's videos over their views; a row of -1 for a bad video.

    `videos`: clips.LabelledVideos; `section`: the YAML's eval, with num_clips, num_crops and batch_size.
    """
    network.set_train(False)
    paths, rows, bad = [video.path for video in videos.videos], [], np.full(len(videos.names), -1.0)
    every = max(1, len(paths) // 20)
    found = video_answers(lambda views: softmax(network(ms.Tensor(views)).asnumpy()), videos.reader, paths,
                          section.num_clips, section.num_crops, section.batch_size)
    for mean in tqdm(found, "evaluation", len(paths), unit="video", disable=None if progress else True):
        if isinstance(mean, VideoError):
            videos.bad.report(mean)
        rows.append(bad if isinstance(mean, VideoError) else mean)
        if progress and (len(rows) % every == 0 or len(rows) == len(paths)):
            tqdm.write(f"eval: {len(rows)}/{len(paths)}")
    return np.stack(rows)


def top1(network, videos, section):
    """Share of a split's videos whose class is the first guess; a bad video counts as wrong."""
    scores = evaluate(network, videos, section, progress=False)
    labels = np.array([video.label for video in videos.videos])
    return float((metrics.top_k(scores, labels, 1) & (scores[:, 0] >= 0)).mean())


def report(scores, videos, config):
    """Print and write to eval.output_dir what the mean probabilities (N, K) say of a split's videos.

    results.json, and accuracy per class as CSV and the confusion as PNG. The last line is
    {'Top_1_Accuracy': ..., 'Top_5_Accuracy': ...}. Raises UserError where no video could be read.
    """
    section, dataset = config.eval, config.data_loader.eval.dataset
    labels, good = np.array([video.label for video in videos.videos]), scores[:, 0] >= 0
    if not good.any():
        raise UserError(f"none of the {len(good)} videos can be decoded")
    counted = good if section.leave_out_bad else np.ones_like(good)
    first, fifth = ((metrics.top_k(scores, labels, k) & good)[counted].mean() for k in (1, 5))
    # A bad video that counts is no prediction at all, which no column of the confusion can hold.
    table = metrics.confusion(labels[good], scores[good].argmax(1), len(videos.names))
    totals = np.bincount(labels[counted], minlength=len(videos.names))
    mean_class, bad = float(np.nanmean(metrics.per_class_accuracy(table, totals))), int((~good).sum())
    print(f"{counted.sum()} videos of {(totals > 0).sum()} classes, {section.num_clips * section.num_crops} "
          f"views each, {bad} of them bad and {'left out' if section.leave_out_bad else 'counted as wrong'}; "
          f"mean class accuracy {mean_class:.4f}")
    metrics.write_confusion(section.output_dir, dataset.split, table, videos.names, totals)
    told = {
        "model": config.model_name, "dataset": dataset.path, "type": dataset.type, "split": dataset.split,
        "list": dataset.list, "classes": len(videos.names), "videos": int(counted.sum()),
        "missing_videos": videos.bad.missing, "bad_videos": bad, "bad_left_out": section.leave_out_bad,
        "clips": section.num_clips, "crops": section.num_crops, "frames": dataset.seq,
        "seq_mode": dataset.seq_mode, "frame_interval": dataset.frame_interval,
        "operations": [dict(operation) for operation in config.data_loader.eval.map.operations],
        "seed": config.seed, "top1": float(first), "top5": float(fifth), "mean_class": mean_class,
    }
    metrics.write_results(Path(section.output_dir) / "results.json", told, section.pretrained_model)
    print({"Top_1_Accuracy": round(told["top1"], 4), "Top_5_Accuracy": round(told["top5"], 4)})
