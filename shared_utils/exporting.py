"""Export of a network to MINDIR, ONNX or AIR, proved equal, and the running of an exported file."""
import tempfile
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import nn
from mindspore.train.mind_ir_pb2 import ModelProto

from shared_utils.config import UserError, explain
from shared_utils.metrics import atomic_write

TOLERANCE = 1e-4  # of the largest answer, or of 1 where that is more


def export(network, inputs, file_name, file_format):
    """Write `file_name`.mindir, .onnx or .air of the network for these input arrays: (path, line that says
    what was proved). But for AIR it is loaded back and must give the network's answers in evaluation mode;
    otherwise nothing is written and UserError tells the difference, as it tells of another format."""
    if file_format not in ("MINDIR", "ONNX", *["AIR"] * (ms.get_context("device_target") == "Ascend")):
        raise UserError(f"file_format is MINDIR, ONNX or, on an Ascend, AIR, not {file_format}")
    network.set_train(False)
    stem = str(file_name).removesuffix(f".{file_format.lower()}")
    target = Path(f"{stem}.{file_format.lower()}")
    if stem.rpartition("/")[2] in ("", ".", ".."):
        raise UserError(f"file_name must name a file, without its ending, not {str(file_name)!r}")
    tensors, proof = [ms.Tensor(array) for array in inputs], "not compared, AIR is not reloaded"
    with atomic_write(target) as part, tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder, f"network{target.suffix}")  # MindSpore refuses spaces, pluses and umlauts
        if file_format == "ONNX":
            ms.onnx.export(network, *tensors, file_name=str(temporary))
        else:
            ms.export(network, *tensors, file_name=str(temporary), file_format=file_format)
        if file_format != "AIR":
            own = network(*tensors).asnumpy()
            difference = np.abs(load_exported(temporary)[0](*inputs) - own).max() / max(1, np.abs(own).max())
            if not difference <= TOLERANCE:
                raise UserError(f"the exported {file_format} differs from the network by {difference:.2e} of "
                                f"its answers' scale, more than {TOLERANCE:.0e}; {target} is not written")
            proof = f"reloaded, largest difference {difference:.1e} of the answers' scale"
        part.write_bytes(temporary.read_bytes())
    return target, f"{target}: {target.stat().st_size:,} bytes, {proof}"


def load_exported(path):
    """(function of input arrays to the answer array, shape of the first input) of a .mindir or .onnx file.
    Raises UserError where it cannot be loaded."""
    path, kind = Path(path), Path(path).suffix[1:].upper()
    if not path.is_file():
        raise UserError(f"no file at {path}")
    if kind not in ("MINDIR", "ONNX"):
        raise UserError(f"{path} is neither .mindir nor .onnx")
    with explain(Exception, f"{path} is no {kind}"):  # the libraries have a class for each kind of damage
        if kind == "ONNX":
            import onnxruntime  # needed here alone
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            names, shape = [node.name for node in session.get_inputs()], session.get_inputs()[0].shape
            return (lambda *arrays: session.run(None, dict(zip(names, arrays)))[0]), shape
        cell, model = nn.GraphCell(ms.load(str(path))), ModelProto()
        model.ParseFromString(path.read_bytes())
        return lambda *arrays: cell(*map(ms.Tensor, arrays)).asnumpy(), [*model.graph.input[0].tensor[0].dims]


def smooth_clips(rng, count, shape):
    """(count, 3, T, H, W) float32 of low-frequency noise, each clip of another contrast, about normalised."""
    *size, height, width = count, *shape
    clips = rng.normal(size=(*size, -(-height // 8), -(-width // 8))).repeat(8, -2).repeat(8, -1)
    return (clips[..., :height, :width] * rng.uniform(0.3, 1.5, (count, 1, 1, 1, 1))).astype(np.float32)
