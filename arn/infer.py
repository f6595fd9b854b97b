"""Which class does each query show: python infer.py -c FILE.yaml [--section.key=value ...].

infer.image_path names a folder with support/<class>/* and query/* (or query/<class>/* where the truth is
known); without it an episode is drawn from data_loader.eval.
"""

import json
from pathlib import Path

import mindspore as ms
import numpy as np

from shared_utils import device
from shared_utils.checkpoint import load_weights
from shared_utils.clips import network_clip
from shared_utils.config import UserError, run
from shared_utils.datasets import video_files
from shared_utils.metrics import writable_folder, write_text
from shared_utils.video import VideoError, write_picture
from src.dataset import Videos, class_folders, clip_reader
from src.episodes import check_classes, draw_episode
from src.network import ARN, make_pairs

WHITE, GREEN, RED = (255, 255, 255), (120, 230, 120), (255, 120, 120)


def main(config):
    device.start(config)
    section = config.infer
    support, queries = folder_episode(section.image_path) if section.image_path else drawn_episode(config)
    output = writable_folder(section.output_dir)
    network = ARN(**config.model)
    load_weights(network, section.pretrained_model)
    network.set_train(False)
    reader = clip_reader(config.data_loader.eval)

    names = sorted(support)
    prototypes = np.stack([prototype(network, reader, name, support[name]) for name in names])
    width = max(len(name) for name in [*names, "predicted"])
    print(f"{'query':40} {'predicted':{width}} score  truth")
    predictions = []
    for number, (path, truth) in enumerate(queries):
        entry = {"query": str(path), "truth": truth}
        predictions.append(entry)
        try:
            frames = reader.frames(path)
        except VideoError as error:
            print(f"bad video: {error}")
            entry["error"] = str(error)
            continue
        scores = relate(network, prototypes, describe(network, reader, frames))
        best = int(scores.argmax())
        entry.update(
            predicted=names[best],
            score=float(scores[best]),
            scores=dict(zip(names, map(float, scores))),
            gif=f"{number:03d}_{Path(path).stem[:60]}.gif",  # up to 250 bytes
        )
        print(f"{Path(path).name:40} {names[best]:{width}} {scores[best]:.3f}  {truth or 'unknown'}")
        write_picture(output / entry["gif"], frames, caption(entry))
    supports = {name: list(map(str, support[name])) for name in names}
    told = json.dumps({"support": supports, "predictions": predictions}, indent=2, ensure_ascii=False)
    write_text(output / "predictions.json", told + "\n")
    bad = sum("error" in entry for entry in predictions)
    known = [entry for entry in predictions if entry["truth"] is not None]
    right = sum(entry.get("predicted") == entry["truth"] for entry in known)
    print(
        f"{len(predictions)} queries"
        + (f", {right} of {len(known)} right" if known else "")
        + (f", {bad} of them bad" if bad else "")
        + f"; predictions.json and a GIF for each {'other one ' * bool(bad)}in {output}"
    )
    if bad == len(predictions):
        raise UserError(f"none of the {bad} queries can be decoded")


def folder_episode(folder):
    """Support {class: [path]} and queries [(path, true class or None)] of a folder. Raises UserError."""
    folder = Path(folder)
    if missing := [name for name in ("support", "query") if not (folder / name).is_dir()]:
        raise UserError(f"infer.image_path wants support/<class>/* and query/*, {folder} has no {missing[0]}")
    support = class_folders(folder / "support")
    empty = {path.name for path in (folder / "support").glob("[!.]*") if path.is_dir()} - set(support)
    if empty:
        raise UserError(f"no videos in {folder / 'support' / min(empty)}")
    queries = [(path, None) for path in video_files(folder / "query")]
    if not queries or any(map(video_files, filter(Path.is_dir, (folder / "query").glob("[!.]*")))):
        queries += [(path, name) for name, paths in class_folders(folder / "query").items() for path in paths]
    return support, queries


def drawn_episode(config):
    """The same for episode `infer.episode` of the data set, one query a class."""
    videos = Videos(config.data_loader.eval, config.data_loader.eval.dataset.split)
    way, shot = config.model.way, config.model.shot
    check_classes(videos.groups, way, shot, 1, videos.names)
    episode = draw_episode(videos.groups, way, shot, 1, config.seed, config.infer.episode)
    support, queries = {}, []
    for label, chosen, asked in zip(*episode):
        support[videos.names[label]] = [videos.paths[label][video] for video in chosen]
        queries += [(videos.paths[label][video], videos.names[label]) for video in asked]
    return support, queries


def prototype(network, reader, name, paths):
    """Mean descriptor (C, C) of the readable support clips of a class. Raises UserError without any."""
    descriptors = []
    for path in paths:
        try:
            descriptors.append(describe(network, reader, reader.frames(path)))
        except VideoError as error:
            print(f"bad video: {error}")
    if not descriptors:
        raise UserError(f"class {name} has no readable support video")
    return np.mean(descriptors, axis=0)


def describe(network, reader, frames):
    """Descriptor (C, C) of a clip's frames (T, H, W, 3). Raises UserError."""
    clip = network_clip(reader.prepare(frames, np.random.default_rng(0)))
    return network.descriptor(ms.Tensor(clip[None])).asnumpy()[0]


def relate(network, prototypes, descriptor):
    """Scores (way,) of one descriptor (C, C) against prototypes (way, C, C)."""
    return network.relation(make_pairs(ms.Tensor(prototypes), ms.Tensor(descriptor[None]))).asnumpy()


def caption(entry):
    """Lines for the GIF: the prediction with its score, green where right; the truth where it is known."""
    truth = entry["truth"]
    colour = WHITE if truth is None else GREEN if truth == entry["predicted"] else RED
    lines = [(f"{entry['predicted']} {entry['score']:.2f}", colour)]
    return [*lines, (f"truth: {truth}", WHITE)] if truth else lines


if __name__ == "__main__":
    run(main, __file__)
