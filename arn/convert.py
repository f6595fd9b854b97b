"""Published ARN weights to our checkpoint: python convert.py SOURCE DEST.ckpt --layout authors|zjut.

authors: a PyTorch state dict with the modules of the paper's code (feature_encoder, spatial_detector,
relation_network); needs requirements-convert.txt. zjut: the checkpoint of the published MindSpore port.
Both have spatial attention alone, added to 1: use the result with -c authors_config.yaml.
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
from src.network import ARN

TORCH_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def authors_keys():
    """{key of the authors' layout: our name}, every tensor of the network."""
    keys = {}
    for layer in range(4):
        source = f"feature_encoder.layer{layer + 1}"
        target = f"descriptor.encoder.{layer}"
        keys.update(_unit(f"{source}.0", f"{source}.1", target, "norm.bn2d", TORCH_NORM))
        source, target = f"relation_network.layer{layer + 1}", f"relation.layer{layer + 1}"
        keys.update(_unit(f"{source}.0", f"{source}.1", target, "norm", TORCH_NORM))
    source = "spatial_detector.sd1"
    keys.update(_unit(f"{source}.0", f"{source}.1", "descriptor.spatial.layer1", "norm.bn2d", TORCH_NORM))
    keys.update(_unit(f"{source}.4", f"{source}.5", "descriptor.spatial.layer2", "norm.bn2d", TORCH_NORM))
    keys.update(_affine(f"{source}.8", "descriptor.spatial.score"))
    keys.update(_affine("relation_network.fc1", "relation.fc1"))
    keys.update(_affine("relation_network.fc2", "relation.fc2"))
    return keys


def zjut_keys():
    """{key of the published MindSpore port: our name}; its convolutions have no bias, ours stay zero."""
    norm3d = {f"bn2d.{name}": name for name in TORCH_NORM.values()}
    norm2d = {name: name for name in TORCH_NORM.values()}
    keys = {}
    for layer, place in enumerate((0, 2, 4, 5)):
        source = f"embedding.embedding.{place}.features"
        keys.update(_unit(f"{source}.0", f"{source}.1", f"descriptor.encoder.{layer}", "norm.bn2d", norm3d))
        source = f"head.relation_network.layer{layer + 1}.features"
        keys.update(_unit(f"{source}.0", f"{source}.1", f"relation.layer{layer + 1}", "norm", norm2d))
    for layer in (1, 2):
        source = f"backbone.spatial_detector.layer{layer}.features"
        keys.update(
            _unit(f"{source}.0", f"{source}.1", f"descriptor.spatial.layer{layer}", "norm.bn2d", norm3d)
        )
    keys.update(_affine("backbone.spatial_detector.conv3d", "descriptor.spatial.score"))
    keys.update(_affine("head.relation_network.fc1", "relation.fc1"))
    keys.update(_affine("head.relation_network.fc2", "relation.fc2"))
    return keys


def _unit(conv, norm, target, target_norm, norm_names):
    return {
        **_affine(conv, f"{target}.conv"),
        **{f"{norm}.{name}": f"{target}.{target_norm}.{ours}" for name, ours in norm_names.items()},
    }


def _affine(source, target):
    return {f"{source}.{name}": f"{target}.{name}" for name in ("weight", "bias")}


def convert(tensors, keys):
    """({our name: array}, names that keep their initialisation) from {key: array}.

    Raises UserError with every unknown and missing key; the convolution biases alone may be missing, all of
    them, or all but those of the attentions' scores.
    """
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    missing = [name for name in keys if name not in tensors]
    bare = {name for name, ours in keys.items() if ours.endswith(".conv.bias")} <= set(missing)
    biases = [name for name in missing if bare and keys[name].endswith((".conv.bias", ".score.bias"))]
    faults = [f"unexpected {name}" for name in tensors if name not in keys]
    faults += [f"missing {name}" for name in missing if name not in biases]
    if faults:
        raise UserError(f"not this layout, {len(faults)} tensors differ: {'; '.join(faults[:20])}")
    return {keys[name]: tensor for name, tensor in tensors.items()}, [keys[name] for name in biases]


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


# What a checkpoint of MindSpore's trainer holds besides weights: an optimizer's and a run's state.
STATE = re.compile(
    r"(moments?\d*|accum|stat|vhat)\..*|beta\d_power|momentum|learning_rate|global_step|epoch_num|step_num|"
    r"scale_sense|(current|last_overflow)_iterator_step"
)


def read_mindspore(path):
    """{key: array} of the weights in a MindSpore checkpoint. Raises UserError."""
    return {
        name: tensor.asnumpy()
        for name, tensor in checkpoint.load(path)[0].items()
        if isinstance(tensor, ms.Tensor) and not STATE.fullmatch(name)
    }


def main(argv):
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("source", type=Path)
    parser.add_argument("dest", type=Path)
    parser.add_argument("--layout", choices=("authors", "zjut"), required=True)
    args = parser.parse_args(argv)
    if not args.source.is_file():
        raise UserError(f"no file at {args.source}")
    if args.dest.suffix != ".ckpt":
        raise UserError(f"DEST must end in .ckpt: {args.dest}")
    if args.dest.resolve() == args.source.resolve():
        raise UserError(f"DEST is the source: {args.dest} would be lost")
    read, keys = {"authors": (read_torch, authors_keys), "zjut": (read_mindspore, zjut_keys)}[args.layout]
    arrays, initial = convert(read(args.source), keys())
    network = ARN(temporal_attention=False, alpha_s=1.0)
    parameters = {parameter.name: parameter for parameter in network.get_parameters()}
    for name, array in arrays.items():
        if parameters[name].shape != array.shape:
            raise UserError(f"{name} is {list(array.shape)} instead of {list(parameters[name].shape)}")
        if not np.isfinite(array).all():
            raise UserError(f"{name} is not finite")
        parameters[name].set_data(ms.Tensor(array, parameters[name].dtype))
    checkpoint.save(args.dest, parameters, {"weights": list(parameters)})
    write_label_map(args.dest, {})
    print(f"{args.dest}: {len(arrays)} tensors, {sum(array.size for array in arrays.values()):,} numbers")
    if initial:
        print(f"not in the source, zero: {', '.join(initial)}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
