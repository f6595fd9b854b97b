"""Published weights to our checkpoint: python convert.py SOURCE DEST.ckpt --layout NAME.

mindspore-ai: the checkpoint of the published MindSpore StNet; its temporal convolutions are dense and its max
pooling SAME: use the result with --depthwise=False --same_pool=True. torchvision-resnet50 (needs
requirements-convert.txt) and mindspore-resnet50: ImageNet weights of images, inflated; temporal blocks,
temporal Xception block and classifier are left as they start.
"""

import argparse
import sys
from pathlib import Path

import mindspore as ms
import numpy as np

from shared_utils import checkpoint
from shared_utils.config import UserError
from shared_utils.datasets import write_label_map
from shared_utils.metrics import atomic_write
from src.inflate import RESNET, STATE, checked, inflate, source_name
from src.network import StNet

TORCHVISION = (
    *RESNET,
    (r"down_sample_layer", "downsample"),
    (r"(bn\d|downsample\.1)\.gamma$", r"\1.weight"),
    (r"(bn\d|downsample\.1)\.beta$", r"\1.bias"),
    (r"moving_mean$", "running_mean"),
    (r"moving_variance$", "running_var"),
)
MINDSPORE_AI = (
    (r"^xception\.norm", "xception.bn"),
    (r"^xception\.time1", "xception.att_conv"),
    (r"^xception\.point1", "xception.att_2"),
    (r"^xception\.time2", "xception.att_1"),
    (r"^xception\.point2", "xception.att1_2"),
    (r"^xception\.shortcut", "xception.dw"),
    (r"^temporal3\.conv", "temp1.conv1"),
    (r"^temporal3\.norm", "temp1.bn1"),
    (r"^temporal4\.conv", "temp2.conv1"),
    (r"^temporal4\.norm", "temp2.bn1"),
    (r"^classifier", "fc"),
    *RESNET,
)


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


# What a layout is read by, and its names.
LAYOUTS = {
    "mindspore-ai": (read_mindspore, MINDSPORE_AI),
    "torchvision-resnet50": (read_torch, TORCHVISION),
    "mindspore-resnet50": (read_mindspore, RESNET),
}


def arguments(tensors, layout, num_classes, frames):
    """Arguments of the network that {key: array} is for."""
    if layout != "mindspore-ai":
        return {"num_classes": num_classes, "N": frames}
    told = {"same_pool": True}
    if (fc := tensors.get("fc.bias")) is not None:
        told["num_classes"] = max(fc.size, 1)
    if (conv1 := tensors.get("conv1.weight")) is not None and conv1.ndim == 4:
        told["N"] = conv1.shape[1] // 3
    if (dense := tensors.get("xception.att_conv.weight")) is not None and dense.ndim == 4:
        told["depthwise"] = dense.shape[1] == 1
    return told


def convert(tensors, layout, shapes):
    """({our name: array}, our names that keep their initialisation) from {key: array} and {our name: shape}.

    Raises UserError with every unexpected, missing and wrongly shaped tensor.
    """
    rules = LAYOUTS[layout][1]
    if layout != "mindspore-ai":
        return inflate(tensors, shapes, rules)
    sources = {name: source_name(name, rules) for name in shapes}
    arrays = {name: tensors[source] for name, source in sources.items() if source in tensors}
    return checked(arrays, sources, tensors, shapes), []


def logits(network):
    """Logits of one small clip of three super-images, always the same."""
    shape = (1, 3, network.super_channels, 64, 64)
    clip = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return network.set_train(False)(ms.Tensor(clip)).asnumpy()[0]


def save(network, make, dest):
    """Write the checkpoint of `network` to `dest` once a network of make() gives the same logits with it.

    Returns them. Raises UserError; what was at `dest` stays then.
    """
    parameters = {parameter.name: parameter for parameter in network.get_parameters()}
    with atomic_write(dest) as temporary:
        checkpoint.save(temporary, parameters, {"weights": list(parameters)})
        loaded = make()
        checkpoint.load_weights(loaded, temporary)
        wanted, answer = logits(network), logits(loaded)
        if not (np.isfinite(wanted).all() and np.abs(wanted - answer).max() <= 1e-5 * np.abs(wanted).max()):
            raise UserError(f"the checkpoint does not give the logits of its source; {dest} is not written")
    return wanted


def main(argv):
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("source", type=Path)
    parser.add_argument("dest", type=Path)
    parser.add_argument("--layout", choices=LAYOUTS, required=True)
    parser.add_argument("--class_num", type=int, default=101, help="classes, for an image network")
    parser.add_argument("--N", type=int, default=5, help="frames of a super-image, for an image network")
    args = parser.parse_args(argv)
    if not args.source.is_file():
        raise UserError(f"no file at {args.source}")
    if args.dest.suffix != ".ckpt":
        raise UserError(f"DEST must end in .ckpt: {args.dest}")
    if args.dest.resolve() == args.source.resolve():
        raise UserError(f"DEST is the source: {args.dest} would be lost")
    tensors = LAYOUTS[args.layout][0](args.source)
    settings = arguments(tensors, args.layout, args.class_num, args.N)
    network = StNet(**settings)
    parameters = {parameter.name: parameter for parameter in network.get_parameters()}
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    arrays, initial = convert(tensors, args.layout, shapes)
    for name, array in arrays.items():
        parameters[name].set_data(ms.Tensor(array, ms.float32))
    answer = save(network, lambda: StNet(**settings), args.dest)
    write_label_map(args.dest, {})
    for name in arrays:
        print(f"{source_name(name, LAYOUTS[args.layout][1])} -> {name} {list(shapes[name])}")
    print(f"{args.dest}: {len(arrays)} tensors, {sum(array.size for array in arrays.values()):,} numbers")
    print(f"network: {', '.join(f'{name}={value}' for name, value in settings.items())}")
    if initial:
        print(f"not in the source, as initialised: {', '.join(initial)}")
    top = ", ".join(f"{label}: {answer[label]:.4f}" for label in np.argsort(-answer)[:5])
    print(f"reloaded, equal logits of a seeded clip; highest by class: {top}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
