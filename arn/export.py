"""Export to MINDIR or ONNX, proved equal: python export.py -c FILE.yaml [--section.key=value ...].

The file takes support (way * shot, 3, T, H, W) and query (Q, 3, T, H, W) and gives scores (Q, way).
"""

import os
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import nn

from shared_utils import training
from shared_utils.checkpoint import load_weights
from shared_utils.config import UserError, run
from shared_utils.metrics import writable_folder
from src.episodes import check_positive
from src.network import ARN

TOLERANCE = 1e-4  # of scores in (0, 1)


def main(config):
    training.start(config)
    section = config.export
    if section.file_format not in ("MINDIR", "ONNX", "AIR"):
        raise UserError(f"export.file_format must be MINDIR, ONNX or AIR, not {section.file_format}")
    if section.file_format == "AIR" and config.context.device_target != "Ascend":
        raise UserError(
            "AIR is written on an Ascend only: set context.device_target to Ascend there, "
            "or export.file_format to MINDIR or ONNX"
        )
    if len(section.input_shape) != 4 or section.input_shape[0] != 3 or min(section.input_shape[1:]) < 4:
        raise UserError(
            f"export.input_shape is a clip's [3, T, H, W], T, H and W from 4 up, not {section.input_shape}"
        )
    check_positive({"export.query": section.query})
    network = ARN(**config.model)
    load_weights(network, section.pretrained_model)
    network.set_train(False)

    rng = np.random.default_rng(config.seed)
    clips = [
        smooth_clips(rng, count, section.input_shape)
        for count in (config.model.way * config.model.shot, section.query)
    ]
    target = Path(f"{section.file_name}.{section.file_format.lower()}")
    temporary = writable_folder(target.parent) / f".{target.stem}-{os.getpid()}{target.suffix}"
    try:
        write(network, map(ms.Tensor, clips), temporary, section.file_format)
        difference = 0.0
        if section.file_format != "AIR":
            answer = {"MINDIR": run_mindir, "ONNX": run_onnx}[section.file_format](temporary, clips)
            difference = float(np.abs(answer - network(*map(ms.Tensor, clips)).asnumpy()).max())
        if not difference <= TOLERANCE:
            raise UserError(
                f"the exported {section.file_format} differs from the network by {difference:.2e}, more than "
                f"{TOLERANCE:.0e}; {target} is not written"
            )
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    proof = (
        "not compared, AIR is not reloaded"
        if section.file_format == "AIR"
        else (f"reloaded, largest difference {difference:.1e}")
    )
    print(
        f"{target}: {target.stat().st_size:,} bytes, {config.model.way}-way {config.model.shot}-shot, "
        f"{section.query} queries, {proof}"
    )


def write(network, inputs, path, file_format):
    """Export by MindSpore's own function for the format."""
    if file_format == "ONNX":
        ms.onnx.export(network, *inputs, file_name=str(path))
    else:
        ms.export(network, *inputs, file_name=str(path), file_format=file_format)


def smooth_clips(rng, count, shape):
    """(count, 3, T, H, W) float32 of low-frequency noise, each clip of another contrast, about normalised."""
    channels, frames, height, width = shape
    coarse = rng.normal(size=(count, channels, frames, -(-height // 8), -(-width // 8)))
    clips = coarse.repeat(8, axis=3).repeat(8, axis=4)[..., :height, :width]
    return (clips * rng.uniform(0.3, 1.5, (count, 1, 1, 1, 1))).astype(np.float32)


def run_mindir(path, clips):
    """Scores of the reloaded MINDIR file."""
    return nn.GraphCell(ms.load(str(path)))(*map(ms.Tensor, clips)).asnumpy()


def run_onnx(path, clips):
    """Scores of the ONNX file in onnxruntime."""
    import onnxruntime  # needed here alone

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {node.name: clip for node, clip in zip(session.get_inputs(), clips)})[0]


if __name__ == "__main__":
    run(main, __file__)
