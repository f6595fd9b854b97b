"""Which action do videos show: python infer.py -c FILE.yaml --infer.image_path=VIDEO [--a.b=value ...].

infer.image_path names a video, a folder of videos or a .txt list; infer.pretrained_model a checkpoint, or an
exported .mindir or .onnx. Writes predictions.jsonl, a GIF or MP4 for each video and, by infer.features,
features.npy to infer.output_dir.
"""

import json
from itertools import chain
from pathlib import Path

import mindspore as ms
import numpy as np
from scipy.special import softmax
from tqdm import tqdm

from shared_utils import device
from shared_utils.checkpoint import load_weights
from shared_utils.clips import ClipReader
from shared_utils.config import UserError, explain, run
from shared_utils.datasets import KINETICS400, read_label_map, read_lines, video_files
from shared_utils.exporting import load_exported
from shared_utils.metrics import writable_folder
from shared_utils.video import SUFFIXES, VideoError, write_picture
from src.build import build
from src.views import video_answers

GREEN, WHITE = (120, 230, 120), (255, 255, 255)  # of the first and the second guess


def main(config):
    device.start(config)
    section = config.infer
    paths = input_videos(section.image_path)
    if section.render not in ("gif", "mp4", "none"):
        raise UserError(f"infer.render must be gif, mp4 or none, not {section.render}")
    output, reader = writable_folder(section.output_dir), ClipReader(config.data_loader.eval)
    answer, batch, classes = predictor(config)
    names = class_names(section.pretrained_model, classes)

    means = video_answers(answer, reader, paths, config.eval.num_clips, config.eval.num_crops, batch)
    bar = tqdm(means, "inference", len(paths), unit="video", disable=None if len(paths) > 1 else True)
    features, bad = [], 0
    results = zip(paths, bar)
    head = first_readable(results)  # before an earlier run's predictions are replaced
    with open(output / "predictions.jsonl", "w", encoding="utf-8", errors="backslashreplace") as lines:
        for number, (path, mean) in enumerate(chain(head, results)):
            entry = {"video": str(path)}
            if isinstance(mean, VideoError):
                entry["error"] = str(mean)
                tqdm.write(f"bad video: {mean}")
                bad += 1
            else:
                entry["top5"] = top5(mean[:classes], names)
                told = [f"  {guess['score']:6.3f}  {guess['class']}" for guess in entry["top5"]]
                tqdm.write("\n".join([path.name, *told]))
                if section.features:
                    entry["features"] = len(features)
                    features.append(mean[classes:])
                if section.render != "none":
                    entry["picture"] = f"{number:05d}_{path.stem[:60]}.{section.render}"  # up to 250 bytes
                    write_picture(output / entry["picture"], reader.frames(path), caption(entry["top5"]))
            lines.write(json.dumps(entry, ensure_ascii=False) + "\n")
            lines.flush()
    if section.features:
        np.save(output / "features.npy", np.array(features, np.float32))
    files = f"predictions.jsonl{' and features.npy' * section.features}"
    print(f"{len(paths)} videos, {bad} of them bad; {files} in {output}")


def first_readable(results):
    """The first (path, answer) of a video that can be decoded, behind those before it. Raises UserError."""
    head = []
    for path, answer in results:
        head.append((path, answer))
        if not isinstance(answer, VideoError):
            return head
    for _, error in head:
        tqdm.write(f"bad video: {error}")
    raise UserError(f"none of the {len(head)} videos can be decoded")


def input_videos(path):
    """The videos that infer.image_path names: a file, a folder with its subfolders, or a .txt list of paths.

    Relative paths in a list are taken from the list's folder. Raises UserError where there is none.
    """
    place = Path(path)
    if not path:
        raise UserError("name a video, a folder of videos or a .txt list of them by --infer.image_path=...")
    if place.suffix.lower() == ".txt":
        return [place.parent / line for line in read_lines(place)]
    if place.is_dir():
        folders = [place, *sorted(entry for entry in place.rglob("*") if entry.is_dir())]
        if found := [video for folder in folders for video in video_files(folder)]:
            return found
        if any(place.glob("*.jpg")):  # the frames of one video
            return [place]
        raise UserError(f"no videos in {place}: {', '.join(SUFFIXES)} or folders of .jpg frames are expected")
    if not place.exists():
        raise UserError(f"no file or folder at {place}")
    return [place]


def class_names(path, classes):
    """Class names by id: the label map's beside the file, else Kinetics-400's for 400, else numbers."""
    if (labels := read_label_map(path)) is not None:
        if len(labels) != classes:
            raise UserError(f"the label map of {path} has {len(labels)} classes, the network {classes}")
        return sorted(labels, key=labels.get)
    return read_lines(KINETICS400) if classes == 400 else [f"class {label}" for label in range(classes)]


def top5(scores, names):
    """The five best of scores (K,), the best first."""
    best = np.argsort(-scores, kind="stable")[:5].tolist()
    return [{"class": names[label], "id": label, "score": float(scores[label])} for label in best]


def caption(guesses):
    """Lines for the picture: the two best guesses with their scores."""
    return [(f"{guess['class']} {guess['score']:.2f}", colour)
            for guess, colour in zip(guesses, (GREEN, WHITE))]


def predictor(config):
    """(function of views (batch, 3, T, H, W) to probabilities and, by infer.features, features; batch;
    classes).

    infer.pretrained_model is a checkpoint, or an exported .mindir or .onnx with a batch of its own. Raises
    UserError.
    """
    section = config.infer
    if Path(section.pretrained_model).suffix.lower() in (".mindir", ".onnx"):
        return exported_predictor(section.pretrained_model, config.model.num_classes, section.features)
    network = build(config)
    load_weights(network, section.pretrained_model)
    network.set_train(False)

    def answer(views):
        clips = ms.Tensor(views)
        scores = softmax(np.float64(network(clips).asnumpy()), axis=1)
        return np.concatenate([scores, network.features(clips).asnumpy()], 1) if section.features else scores

    return answer, section.batch_size, config.model.num_classes


def exported_predictor(path, classes, features):
    """The same for a .mindir or .onnx, which has its own batch. `classes`: the YAML's, where no label map is
    beside the file; what the file gives behind them are features."""
    answers, shape = load_exported(path)
    shape = tuple(shape)
    with explain(Exception, f"{path} does not classify clips"):  # another model's, or made elsewhere
        width = len(answers(np.zeros(shape, np.float32))[0])
    labels = read_label_map(path)
    classes = classes if labels is None else len(labels)
    if features and classes >= width:
        raise UserError(
            f"{path} has no features behind its {classes} scores: export it with export.features=true"
        )
    if not features and classes < width:
        told = "model.num_classes is" if labels is None else "the classes of its label map are"
        raise UserError(f"{path} gives {width} numbers a clip, {told} {classes}: infer.features=true, if the "
                        "rest is features")
    classes = min(classes, width)

    def answer(views):
        if views.shape != shape:
            raise UserError(
                f"{path} takes clips of {list(shape)}, data_loader.eval makes {list(views.shape)}"
            )
        rows = np.float64(answers(views))
        scores = softmax(rows[:, :classes], axis=1)
        return np.concatenate([scores, rows[:, classes:]], 1) if features else scores

    return answer, shape[0], classes


if __name__ == "__main__":
    run(main, __file__)
