"""Published R(2+1)D-18 to our checkpoint: python convert.py SOURCE DEST.ckpt --layout torchvision|zjut.

torchvision: a PyTorch state dict of r2plus1d_18; needs requirements-convert.txt. zjut: a checkpoint of the
published MindSpore port, whose widths are torchvision's too. The number of classes is the source's.
"""

import argparse
import re
import sys
from pathlib import Path

import mindspore as ms
import numpy as np

from shared_utils import checkpoint
from shared_utils.config import UserError
from shared_utils.datasets import write_label_map
from shared_utils.metrics import atomic_write
from src.network import R2Plus1D18

TORCH_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
ZJUT_NORM = {f"bn2d.{name}": name for name in TORCH_NORM.values()}
# What a checkpoint of MindSpore's trainer holds besides weights: an optimizer's and a run's state.
STATE = re.compile(
    r"(moments?\d*|accum|stat|vhat)\..*|beta\d_power|momentum|learning_rate|global_step|epoch_num|step_num|"
    r"scale_sense|(current|last_overflow)_iterator_step"
)


def torchvision_keys():
    """{key of torchvision's r2plus1d_18: our name}, every tensor of the network."""
    keys = {
        **_unit("stem.0", "stem.1", "stem.space", TORCH_NORM),
        **_unit("stem.3", "stem.4", "stem.time", TORCH_NORM),
        **_affine("fc"),
    }
    for number in range(8):
        source, ours = f"layer{number // 2 + 1}.{number % 2}", f"blocks.{number}"
        for conv in ("conv1", "conv2"):
            both, unit = f"{source}.{conv}", f"{ours}.{conv}"
            keys.update(_unit(f"{both}.0.0", f"{both}.0.1", f"{unit}.space", TORCH_NORM))
            keys.update(_unit(f"{both}.0.3", f"{both}.1", f"{unit}.time", TORCH_NORM))
        if number in (2, 4, 6):
            down = f"{source}.downsample"
            keys.update(_unit(f"{down}.0", f"{down}.1", f"{ours}.shortcut", TORCH_NORM))
    return keys


def zjut_keys():
    """{key of the published MindSpore port: our name}, every tensor of the network."""
    keys = {
        **_unit("conv1.0", "conv1.1", "stem.space", ZJUT_NORM),
        **_unit("conv1.3", "conv1.4", "stem.time", ZJUT_NORM),
        **_affine("classifier"),
    }
    for number in range(8):
        source, ours = f"layer{number // 2 + 1}.{number % 2}", f"blocks.{number}"
        units = {
            f"conv12.conv{conv}_{place}": f"conv{conv}.{kind}"
            for conv in (1, 2)
            for place, kind in enumerate(("space", "time"))
        }
        if number in (2, 4, 6):
            units["down_sample"] = "shortcut"
        for theirs, unit in units.items():
            features = f"{source}.{theirs}.features"
            keys.update(_unit(f"{features}.0", f"{features}.1", f"{ours}.{unit}", ZJUT_NORM))
    return keys


def _unit(conv, norm, target, norm_names):
    return {
        f"{conv}.weight": f"{target}.conv.weight",
        **{f"{norm}.{name}": f"{target}.norm.{ours}" for name, ours in norm_names.items()},
    }


def _affine(source):
    return {f"{source}.{name}": f"classifier.{name}" for name in ("weight", "bias")}


def published_shape(name, shape):
    """The shape that the published layouts give to our tensor `name`: they have 3D convolutions."""
    if not name.endswith("conv.weight"):
        return shape
    channels, inputs, height, width = shape
    return (channels // 3, inputs, 3, 1, 1) if ".time." in name else (channels, inputs, 1, height, width)


def our_weight(array, shape):
    """A published tensor in our shape: of a temporal convolution, (C', C, 3, 1, 1), the taps come first."""
    if array.shape[2:] == (3, 1, 1):
        array = array.transpose(2, 0, 1, 3, 4)  # (3, C', C, 1, 1)
    return array.reshape(shape)


def convert(tensors, keys):
    """The network with the weights of {key: array}, its number of classes taken from them.

    Raises UserError with every unexpected, missing, wrongly shaped and not finite tensor.
    """
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    ours = {keys.get(name, name): tensor for name, tensor in tensors.items()}
    classes = ours["classifier.bias"].size if "classifier.bias" in ours else 400
    network = R2Plus1D18(max(classes, 1))
    parameters = {parameter.name: parameter for parameter in network.get_parameters()}
    shapes = {source: published_shape(name, parameters[name].shape) for source, name in keys.items()}
    faults = [f"unexpected {name}" for name in tensors if name not in keys]
    faults += [f"missing {name}" for name in keys if name not in tensors]
    faults += [
        f"{name} is {list(tensors[name].shape)} instead of {list(shape)}"
        for name, shape in shapes.items()
        if name in tensors and tensors[name].shape != shape
    ]
    faults += [f"{name} is not finite" for name, array in tensors.items() if not np.isfinite(array).all()]
    if faults:
        raise UserError(f"not this layout, {len(faults)} tensors differ: {'; '.join(faults[:20])}")
    for source, name in keys.items():
        array = our_weight(tensors[source], parameters[name].shape)
        parameters[name].set_data(ms.Tensor(array, parameters[name].dtype))
    return network


def read_torch(path):
    """{key: array} of a PyTorch state dict, which may lie under `state_dict`."""
    try:
        import torch  # needed here alone
    except ImportError:
        raise UserError("a PyTorch file needs torch: requirements-convert.txt of the repository") from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        return {
            name: tensor.detach().float().numpy()
            for name, tensor in state.items()
            if isinstance(tensor, torch.Tensor)
        }
    except Exception as error:  # a damaged file can raise anything
        reason = (str(error) or repr(error)).splitlines()[0]
        raise UserError(f"{path} is not a PyTorch state dict: {reason}") from None


def read_mindspore(path):
    """{key: array} of the weights in a MindSpore checkpoint. Raises UserError."""
    return {
        name: tensor.asnumpy()
        for name, tensor in checkpoint.load(path)[0].items()
        if isinstance(tensor, ms.Tensor) and not STATE.fullmatch(name)
    }


LAYOUTS = {"torchvision": (read_torch, torchvision_keys), "zjut": (read_mindspore, zjut_keys)}


def save(network, dest):
    """Write the network's checkpoint; returns its logits on a seeded clip, read back and computed anew.

    Raises UserError where they are not those of `network`; what was at `dest` stays then.
    """
    clip = ms.Tensor(np.random.default_rng(0).normal(size=(1, 3, 8, 48, 48)).astype(np.float32))
    weights = {parameter.name: parameter for parameter in network.get_parameters()}
    with atomic_write(dest) as temporary:
        checkpoint.save(temporary, weights, {"weights": list(weights)})
        again = R2Plus1D18(network.classifier.out_channels)
        checkpoint.load_weights(again, temporary)
        wanted, logits = (cell.set_train(False)(clip).asnumpy()[0] for cell in (network, again))
        difference = np.abs(logits - wanted).max()
        if not difference <= 1e-5 * np.abs(wanted).max():
            raise UserError(f"the checkpoint's logits differ from the source's by {difference}: not written")
    return logits


def main(argv):
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("source", type=Path)
    parser.add_argument("dest", type=Path)
    parser.add_argument("--layout", choices=LAYOUTS, required=True)
    args = parser.parse_args(argv)
    if not args.source.is_file():
        raise UserError(f"no file at {args.source}")
    if args.dest.suffix != ".ckpt":
        raise UserError(f"DEST must end in .ckpt: {args.dest}")
    if args.dest.resolve() == args.source.resolve():
        raise UserError(f"DEST is the source: {args.dest} would be lost")
    read, keys = LAYOUTS[args.layout]
    network = convert(read(args.source), keys())
    logits = save(network, args.dest)
    write_label_map(args.dest, {})
    parameters = list(network.get_parameters())
    for parameter in parameters:
        print(f"{parameter.name} {list(parameter.shape)}")
    numbers = sum(parameter.size for parameter in parameters)
    print(f"{args.dest}: {len(parameters)} tensors, {numbers:,} numbers, {len(logits)} classes")
    highest = ", ".join(f"{logits[label]:.4f} (class {label})" for label in np.argsort(-logits)[:5])
    print(f"read back, the logits of a seeded clip are equal; the highest: {highest}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
