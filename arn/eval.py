"""Few-shot accuracy on unseen classes: python eval.py -c FILE.yaml [--section.key=value ...]."""

import numpy as np

from shared_utils import device, metrics
from shared_utils.checkpoint import load_weights
from shared_utils.config import UserError, run
from shared_utils.datasets import read_label_map
from src.dataset import Videos
from src.episodes import check_classes, check_positive
from src.evaluation import EncodedVideos, accuracy
from src.network import ARN


def main(config):
    rank, _ = device.start(config)
    section, dataset, way = config.eval, config.data_loader.eval.dataset, config.model.way
    videos = Videos(config.data_loader.eval, dataset.split)
    check_positive(
        {"eval.episodes": section.episodes, "data_loader.eval.dataset.batch_size": dataset.batch_size}
    )
    if not section.shots:
        raise UserError("eval.shots names no number of shots")
    check_positive({"eval.shots": min(section.shots), "eval.query": section.query})
    for shot in section.shots:
        check_classes(videos.groups, way, shot, section.query, videos.names)
    output = metrics.writable_folder(section.output_dir)

    network = ARN(**config.model)
    load_weights(network, section.pretrained_model)
    kept = read_label_map(section.pretrained_model)
    trained_on = set(kept or ()) & set(videos.names)
    if kept is None:
        print("note: no label map beside the checkpoint tells whether it was trained on these classes")
    elif trained_on:
        print(
            f"note: {len(trained_on)} of these {len(videos.names)} classes were trained on "
            f"({min(trained_on)}, ...): this is not the accuracy on unseen classes"
        )

    encoded = EncodedVideos(network, videos, dataset.batch_size, section.leave_out_bad, progress=True)
    bad = int((~encoded.good).sum())
    print(
        f"{len(encoded.good)} videos of {len(videos.names)} classes, {bad} of them bad and "
        f"{'left out' if section.leave_out_bad else 'counted as wrong'}"
    )
    results = {}
    for shot in section.shots:
        name = f"{way}_way_{shot}_shot"
        labels, predictions = encoded.episodes(way, shot, section.query, section.episodes, config.seed)
        mean, half = accuracy(labels, predictions)
        print(
            f"{way}-way {shot}-shot: {100 * mean:.2f} +- {100 * half:.2f} % over {section.episodes} episodes"
        )
        results[name] = {"accuracy": mean, "interval95": half}
        if rank:  # the first one tells
            continue
        # A bad query that counts is no prediction at all, which no column of the confusion can hold.
        known, totals = predictions >= 0, np.bincount(labels.ravel(), minlength=len(videos.names))
        table = metrics.confusion(labels[known], predictions[known], len(videos.names))
        metrics.write_confusion(output, name, table, videos.names, totals)
    if rank:
        return
    told = {
        "model": "ARN",
        "dataset": dataset.path,
        "class_split": dataset.class_split,
        "split": dataset.split,
        "classes": len(videos.names),
        "classes_trained_on": None if kept is None else len(trained_on),
        "videos": len(encoded.good),
        "bad_videos": bad,
        "bad_left_out": section.leave_out_bad,
        "frames": dataset.seq,
        "seq_mode": dataset.seq_mode,
        "frame_interval": dataset.frame_interval,
        "operations": [dict(operation) for operation in config.data_loader.eval.map.operations],
        "views": 1,
        "query": section.query,
        "episodes": section.episodes,
        "distinct_groups": dataset.distinct_groups,
        "seed": config.seed,
        "results": results,
    }
    metrics.write_results(output / "results.json", told, section.pretrained_model)
    print({f"{name}_Accuracy": round(result["accuracy"], 4) for name, result in results.items()})


if __name__ == "__main__":
    run(main, __file__)
