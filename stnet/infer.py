"""Which action do videos show: python infer.py -c FILE.yaml --resume=CHECKPOINT --image_path=VIDEO [...].

image_path names a video, a folder of videos or a .txt list; resume a checkpoint, or an exported .mindir or
.onnx. Writes predictions.jsonl and a GIF or MP4 for each video to infer_dir.
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
from shared_utils.config import UserError, explain, run
from shared_utils.datasets import KINETICS400, read_label_map, read_lines, video_files
from shared_utils.exporting import load_exported
from shared_utils.metrics import writable_folder
from shared_utils.video import SUFFIXES, VideoError, write_picture
from src import settings
from src.dataset import ClipReader
from src.evaluation import answers
from src.modelarts import online

GREEN, WHITE = (120, 230, 120), (255, 255, 255)  # of the first and the second guess


@online
def main(config):
    device.start(settings.job(config))
    paths = input_videos(config.image_path)
    if config.render not in ("gif", "mp4", "none"):
        raise UserError(f"render must be gif, mp4 or none, not {config.render}")
    output, reader = writable_folder(config.infer_dir), ClipReader(config)
    answer, batch, classes = predictor(config, settings.trained(config))
    names = class_names(config.resume, classes)

    found = answers(answer, reader, [(path, None) for path in paths], batch)
    bar = tqdm(found, "inference", len(paths), unit="video", disable=None if len(paths) > 1 else True)
    bad = 0
    results = zip(paths, bar)
    head = first_readable(results)  # before an earlier run's predictions are replaced
    with open(output / "predictions.jsonl", "w", encoding="utf-8", errors="backslashreplace") as lines:
        for number, (path, scores) in enumerate(chain(head, results)):
            entry = {"video": str(path)}
            if isinstance(scores, VideoError):
                entry["error"] = str(scores)
                tqdm.write(f"bad video: {scores}")
                bad += 1
            else:
                entry["top5"] = top5(scores, names)
                told = [f"  {guess['score']:6.3f}  {guess['class']}" for guess in entry["top5"]]
                tqdm.write("\n".join([path.name, *told]))
                if config.render != "none":
                    entry["picture"] = f"{number:05d}_{path.stem[:60]}.{config.render}"  # up to 250 bytes
                    write_picture(output / entry["picture"], reader.frames(path), caption(entry["top5"]))
            lines.write(json.dumps(entry, ensure_ascii=False) + "\n")
            lines.flush()
    print(f"{len(paths)} videos, {bad} of them bad; predictions.jsonl in {output}")


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
    """The videos that image_path names: a file, a folder with its subfolders, or a .txt list of paths.

    Relative paths in a list are taken from the list's folder. Raises UserError where there is none.
    """
    place = Path(path)
    if not path:
        raise UserError("name a video, a folder of videos or a .txt list of them by --image_path=...")
    if place.suffix.lower() == ".txt":
        return [place.parent / line for line in read_lines(place)]
    if place.is_dir():
        folders = [place, *sorted(entry for entry in place.rglob("*") if entry.is_dir())]
        if found := [video for folder in folders for video in video_files(folder, (*SUFFIXES, ".pkl"))]:
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
    return [
        (f"{guess['class']} {guess['score']:.2f}", colour) for guess, colour in zip(guesses, (GREEN, WHITE))
    ]


def predictor(config, path):
    """(function of super-images (batch, T, 3N, H, W) to probabilities (batch, K); batch; K).

    Raises UserError.
    """
    if Path(path).suffix.lower() in (".mindir", ".onnx"):
        logits, shape = load_exported(path)
        wanted = (shape[0], config.T, 3 * config.N, config.target_size, config.target_size)
        if tuple(shape) != wanted:
            raise UserError(f"{path} takes {list(shape)}, but the configuration makes {list(wanted)}")
        with explain(Exception, f"{path} does not classify super-images"):  # made elsewhere
            classes = len(logits(np.zeros(shape, np.float32))[0])
        return lambda clips: softmax(np.float64(logits(clips)), axis=1), shape[0], classes
    network = settings.build(config)
    load_weights(network, path)
    network.set_train(False)
    return (
        lambda clips: softmax(np.float64(network(ms.Tensor(clips)).asnumpy()), axis=1),
        config.eval_batch_size,
        config.class_num,
    )


if __name__ == "__main__":
    run(main, __file__)
