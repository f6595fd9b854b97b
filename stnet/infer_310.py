"""Accuracy of an exported MINDIR: python infer_310.py -c FILE.yaml --resume=STNET.mindir --dataset_path=DATA.

What run_infer_310.sh runs. MindSpore Lite answers where it is installed and the machine has an Ascend (or
target says so), otherwise MindSpore on the CPU. The super-images of eval_split are made first and stay in
preprocess_dir, from which another call takes them by --preprocess=False.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from shared_utils import device, exporting
from shared_utils.clips import prefetch
from shared_utils.config import UserError, run
from shared_utils.datasets import check_labels, read_label_map, write_label_map
from shared_utils.metrics import writable_folder
from shared_utils.video import VideoError
from src import settings
from src.dataset import LabelledVideos

LIST = "videos.json"  # [{video, label, clip: file of its super-images or null for a bad video}]


def main(config):
    path, folder = Path(settings.trained(config)), Path(config.preprocess_dir)
    logits, shape, engine = engine_for(config, path)
    if shape[0] != 1:
        raise UserError(f"{path} takes {shape[0]} clips at a time, here 1: export it by export_batch_size=1")
    if config.preprocess:
        preprocess(config, writable_folder(folder), path)
    elif (kept := read_label_map(path)) and (there := read_label_map(folder / LIST)):
        check_labels(f"the label map of {path}", kept, there)
    videos, correct = listed(folder), 0
    for video in tqdm(videos, "inference", unit="video", disable=None):
        if video["clip"]:
            correct += int(logits(read(folder / video["clip"], shape)).argmax()) == video["label"]
    bad = sum(video["clip"] is None for video in videos)
    print(f"{path.name} through {engine}, {len(videos)} videos, {bad} of them bad and counted as wrong")
    print(f"top1_correct={correct}, tot={len(videos)}, acc={100 * correct / len(videos):.2f}%")


def preprocess(config, folder, path):
    """Write the super-images (1, T, 3N, H, W) of each video of eval_split to `folder`. Raises UserError."""
    videos = LabelledVideos(config, config.eval_split)
    if (kept := read_label_map(path)) is not None:
        check_labels(f"the label map of {path}", kept, videos.labels)
    (folder / LIST).unlink(missing_ok=True)  # without it the folder is not whole
    write_label_map(folder / LIST, videos.labels)

    def write(item):
        number, video = item
        entry = {"video": video.id, "label": int(video.label), "clip": f"{number:06d}.npy"}
        try:
            np.save(folder / entry["clip"], videos.reader.clip(video.path, label=video.label)[None])
        except VideoError as error:
            videos.bad.report(error)
            entry["clip"] = None
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror}") from None
        return entry

    done = prefetch(write, list(enumerate(videos.videos)), videos.reader.workers, 2 * videos.reader.workers)
    bar = tqdm(done, "preprocessing", len(videos.videos), unit="video", disable=None)
    (folder / LIST).write_text(json.dumps(list(bar), indent=1))


def listed(folder):
    """What preprocessing listed. Raises UserError."""
    try:
        videos = json.loads((folder / LIST).read_text())
    except (OSError, ValueError):
        raise UserError(f"no super-images in {folder}: make them by preprocess=True first") from None
    if not videos:
        raise UserError(f"{folder} has no videos")
    return videos


def read(path, shape):
    """The super-images at `path`, which must be of the MINDIR's shape. Raises UserError."""
    try:
        clip = np.load(path)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if clip.shape != tuple(shape):
        raise UserError(f"{path} is {list(clip.shape)}, but the MINDIR takes {list(shape)}")
    return clip


def engine_for(config, path):
    """(function of super-images to logits (1, K), shape that it takes, its name). Raises UserError."""
    if config.target not in ("", "CPU", "Ascend"):
        raise UserError(f"target must be CPU or Ascend, or empty to find out, not {config.target}")
    if not path.is_file() or path.suffix != ".mindir":
        raise UserError(f"{path} is no .mindir file: make one by export.py")
    ascend, lite = Path(f"/dev/davinci{config.device_id}"), importlib.util.find_spec("mindspore_lite")
    if config.target == "Ascend" and not lite:
        raise UserError("MindSpore Lite is not installed, which runs a MINDIR on an Ascend 310")
    if config.target == "Ascend" or (config.target == "" and lite and ascend.exists()):
        return (*lite_model(path, config.device_id), f"MindSpore Lite on Ascend {config.device_id}")
    if config.target == "" and ascend.exists():
        print("note: there is an Ascend, but MindSpore Lite, which would use it, is not installed")
    config.target = "CPU"
    device.start(settings.job(config))
    return (*exporting.load_exported(path), "MINDIR on the CPU")


def lite_model(path, device_id):
    """(function of super-images to logits, shape that it takes) by MindSpore Lite. Raises UserError."""
    import mindspore_lite  # on machines with an Ascend alone

    context = mindspore_lite.Context()
    context.target = ["ascend"]
    context.ascend.device_id = device_id
    model = mindspore_lite.Model()
    try:
        model.build_from_file(str(path), mindspore_lite.ModelType.MINDIR, context)
    except RuntimeError as error:
        raise UserError(f"MindSpore Lite cannot load {path}: {str(error).splitlines()[0]}") from None

    def logits(clips):
        inputs = model.get_inputs()
        inputs[0].set_data_from_numpy(clips)
        return model.predict(inputs)[0].get_data_to_numpy()

    return logits, list(model.get_inputs()[0].shape)


if __name__ == "__main__":
    run(main, __file__)
