"""Predictions for videos of the user's: top-5 as JSON lines, pictures with the prediction, features."""
import json
from pathlib import Path

import mindspore as ms
import numpy as np
from tqdm import tqdm

from shared_utils.checkpoint import load_weights
from shared_utils.clips import ClipReader
from shared_utils.config import UserError
from shared_utils.datasets import KINETICS400, label_map_of, read_label_map, read_lines, video_files
from shared_utils.evaluation import softmax
from shared_utils.exporting import load_exported
from shared_utils.metrics import writable_folder
from shared_utils.video import SUFFIXES, VideoError, write_picture
from shared_utils.views import video_answers

COLOURS = ((120, 230, 120), (255, 255, 255))  # of the first and the second guess


def infer(config, build):
    """Predict infer.image_path by infer.pretrained_model; `build()` makes the network for a checkpoint.

    Writes predictions.jsonl, a GIF or MP4 for each video and, by infer.features, features.npy to
    infer.output_dir. A bad video gets an error in its line. Raises UserError.
    """
    section = config.infer
    paths = input_videos(section.image_path)
    if section.render not in ("gif", "mp4", "none"):
        raise UserError(f"infer.render must be gif, mp4 or none, not {section.render}")
    output, reader = writable_folder(section.output_dir), ClipReader(config.data_loader.eval)
    answer, batch, classes = predictor(section, build, config.model.num_classes)
    names = class_names(section.pretrained_model, classes)
    means = video_answers(answer, reader, paths, config.eval.num_clips, config.eval.num_crops, batch)
    features, bar = [], tqdm(means, "inference", len(paths), unit="video",
                             disable=None if len(paths) > 1 else True)
    with open(output / "predictions.jsonl", "w", encoding="utf-8") as lines:
        for number, (path, mean) in enumerate(zip(paths, bar)):
            entry = {"video": str(path)}
            if isinstance(mean, VideoError):
                entry["error"] = str(mean)
                tqdm.write(f"bad video: {mean}")
            else:
                best = np.argsort(-mean[:classes], kind="stable")[:5].tolist()
                entry["top5"] = [{"class": names[label], "id": label, "score": float(mean[label])}
                                 for label in best]
                told = [f"  {mean[label]:6.3f}  {names[label]}" for label in best]
                tqdm.write("\n".join([path.name, *told]))
                if section.features:
                    entry["features"] = len(features)
                    features.append(mean[classes:])
                if section.render != "none":
                    entry["picture"] = f"{number:05d}_{path.stem[:80]}.{section.render}"
                    caption = [(f"{names[label]} {mean[label]:.2f}", colour)
                               for label, colour in zip(best, COLOURS)]
                    write_picture(output / entry["picture"], reader.frames(path), caption)
            lines.write(json.dumps(entry, ensure_ascii=False) + "\n")
            lines.flush()
    if section.features:
        np.save(output / "features.npy", np.array(features, np.float32))
    print(f"{len(paths)} videos; predictions.jsonl{' and features.npy' * section.features} in {output}")


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
        raise UserError(f"no videos in {place}: {', '.join(SUFFIXES)} or folders of .jpg frames are expected")
    if not place.exists():
        raise UserError(f"no file or folder at {place}")
    return [place]


def predictor(section, build, classes):
    """(function of views (batch, 3, T, H, W) to probabilities and, by section.features, features; batch;
    classes).

    infer.pretrained_model is a checkpoint, or an exported .mindir or .onnx with a batch of its own. Raises
    UserError.
    """
    path = Path(section.pretrained_model)
    if path.suffix.lower() in (".mindir", ".onnx"):
        if section.features:
            raise UserError("infer.features needs a checkpoint: an exported file gives logits alone")
        logits, shape = load_exported(path)

        def exported(views):
            if list(views.shape) != list(shape):
                raise UserError(f"{path} takes clips of {list(shape)}, data_loader.eval makes "
                                f"{list(views.shape)}")
            return softmax(logits(views))

        return exported, shape[0], len(logits(np.zeros(shape, np.float32))[0])
    network = build()
    load_weights(network, path)
    network.set_train(False)

    def answer(views):
        clips = ms.Tensor(views)
        scores = softmax(network(clips).asnumpy())
        return np.concatenate([scores, network.features(clips).asnumpy()], 1) if section.features else scores

    return answer, section.batch_size, classes


def class_names(path, classes):
    """Class names by id: the label map's beside the file, else Kinetics-400's for 400, else numbers."""
    if label_map_of(path).exists():
        labels = read_label_map(label_map_of(path))
        return sorted(labels, key=labels.get)
    return read_lines(KINETICS400) if classes == 400 else [f"class {label}" for label in range(classes)]
