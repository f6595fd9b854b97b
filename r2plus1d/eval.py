"""Accuracy by video: python eval.py -c FILE.yaml [--section.key=value ...]."""

import numpy as np

from shared_utils import device, metrics
from shared_utils.checkpoint import load_weights
from shared_utils.config import UserError, run
from shared_utils.datasets import check_labels, read_label_map
from src.build import build
from src.dataset import LabelledVideos
from src.evaluation import probabilities
from src.step import mixed_precision


def main(config):
    rank, _ = device.start(config)
    section = config.eval
    videos = LabelledVideos(config.data_loader.eval, config.model.num_classes)
    output = metrics.writable_folder(section.output_dir)

    network = build(config)
    mixed_precision(network, config.train.amp_level)  # as validation in training did
    load_weights(network, section.pretrained_model)
    if (kept := read_label_map(section.pretrained_model)) is not None:
        check_labels(f"the label map of {section.pretrained_model}", kept, videos.labels)

    scores = probabilities(network, videos, section)
    if rank:  # the first one tells
        return
    found = score_split(scores, videos, section.leave_out_bad)
    views = section.num_clips * section.num_crops
    counted = "left out" if section.leave_out_bad else "counted as wrong"
    missing = f"{videos.bad.missing} more of the list missing; " if videos.bad.missing else ""
    print(
        f"{found['videos']} videos of {(found['totals'] > 0).sum()} classes, {views} views each, "
        f"{found['bad_videos']} of them bad and {counted}; {missing}"
        f"mean class accuracy {found['mean_class']:.4f}"
    )
    dataset = config.data_loader.eval.dataset
    metrics.write_confusion(output, dataset.split, found.pop("table"), videos.names, found.pop("totals"))
    told = {
        "model": config.model_name,
        "dataset": dataset.path,
        "type": dataset.type,
        "split": dataset.split,
        "list": dataset.list,
        "classes": len(videos.names),
        "missing_videos": videos.bad.missing,
        "bad_left_out": section.leave_out_bad,
        "views": views,
        "clips": section.num_clips,
        "crops": section.num_crops,
        "amp_level": config.train.amp_level,
        "frames": dataset.seq,
        "seq_mode": dataset.seq_mode,
        "frame_interval": dataset.frame_interval,
        "operations": [dict(operation) for operation in config.data_loader.eval.map.operations],
        "seed": config.seed,
        **found,
    }
    metrics.write_results(output / "results.json", told, section.pretrained_model)
    print({"Top_1_Accuracy": round(found["top1"], 4), "Top_5_Accuracy": round(found["top5"], 4)})


def score_split(scores, videos, leave_out_bad):
    """What mean probabilities (N, K) say of a split's videos, -1 for the bad ones, by name.

    Among it the confusion `table` (K, K) and the `totals` (K,) of the classes. Raises UserError where no
    video could be read.
    """
    labels, good = np.array([video.label for video in videos.videos]), scores[:, 0] >= 0
    if not good.any():
        raise UserError(f"none of the {len(good)} videos can be decoded")
    counted = good if leave_out_bad else np.ones_like(good)
    first, fifth = ((metrics.top_k(scores, labels, k) & good)[counted].mean() for k in (1, 5))
    # A bad video that counts is no prediction at all, which no column of the confusion can hold.
    table = metrics.confusion(labels[good], scores[good].argmax(1), len(videos.names))
    totals = np.bincount(labels[counted], minlength=len(videos.names))
    return {
        "videos": int(counted.sum()),
        "bad_videos": int((~good).sum()),
        "top1": float(first),
        "top5": float(fifth),
        "mean_class": float(np.nanmean(metrics.per_class_accuracy(table, totals))),
        "table": table,
        "totals": totals,
    }


if __name__ == "__main__":
    run(main, __file__)
