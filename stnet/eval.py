"""Accuracy of StNet by video: python eval.py -c FILE.yaml --resume=CHECKPOINT [--key=value ...]."""

import numpy as np

from shared_utils import device, metrics
from shared_utils.checkpoint import load_weights
from shared_utils.config import UserError, run
from shared_utils.datasets import check_labels, read_label_map
from src import settings
from src.dataset import LabelledVideos
from src.evaluation import probabilities
from src.modelarts import online


@online
def main(config):
    rank, _ = device.start(settings.job(config))
    path = settings.trained(config)
    videos = LabelledVideos(config, config.eval_split)
    output = metrics.writable_folder(config.eval_dir)

    network = settings.build(config)
    load_weights(network, path)
    if (kept := read_label_map(path)) is not None:
        check_labels(f"the label map of {path}", kept, videos.labels)

    scores = probabilities(network, videos, config.eval_batch_size)
    if rank:  # the first one tells
        return
    labels, good = np.array([video.label for video in videos.videos]), scores[:, 0] >= 0
    if not good.any():
        raise UserError(f"none of the {len(good)} videos can be decoded")
    counted = good if config.leave_out_bad else np.ones_like(good)
    first, fifth = ((metrics.top_k(scores, labels, k) & good)[counted].mean() for k in (1, 5))
    # A bad video that counts is no prediction at all, which no column of the confusion can hold.
    table = metrics.confusion(labels[good], scores[good].argmax(1), len(videos.names))
    totals = np.bincount(labels[counted], minlength=len(videos.names))
    mean_class = float(np.nanmean(metrics.per_class_accuracy(table, totals)))
    metrics.write_confusion(output, config.eval_split, table, videos.names, totals)
    told = {
        "model": f"StNet-ResNet{config.depth}",
        "dataset": config.dataset_path,
        "type": config.dataset_type,
        "split": config.eval_split,
        "list": videos.list,
        "val_groups": config.val_groups,
        "classes": len(videos.names),
        "videos": int(counted.sum()),
        "missing_videos": videos.bad.missing,
        "bad_videos": int((~good).sum()),
        "bad_left_out": config.leave_out_bad,
        "views": 1,
        "segments": config.T,
        "frames": config.N,
        "short_size": config.short_size,
        "squash": config.squash,
        "target_size": config.target_size,
        "image_mean": list(config.image_mean),
        "image_std": list(config.image_std),
        "seed": config.seed,
        "top1": float(first),
        "top5": float(fifth),
        "mean_class": mean_class,
    }
    metrics.write_results(output / "results.json", told, path)
    bad = f"{told['bad_videos']} of them bad and {'left out' if config.leave_out_bad else 'counted as wrong'}"
    missing = f"{videos.bad.missing} more of the list missing; " if videos.bad.missing else ""
    print(
        f"{told['videos']} videos of {(totals > 0).sum()} classes, 1 view each, {bad}; {missing}"
        f"top-5 {fifth:.4f}, mean class accuracy {mean_class:.4f}"
    )
    print(f"accuracy:{{'acc':{round(float(first), 4)}}}")


if __name__ == "__main__":
    run(main, __file__)
