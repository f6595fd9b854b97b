"""Published weights to our checkpoint: python convert.py SOURCE DEST.ckpt --layout NAME.

mmaction2: a PyTorch checkpoint of i3d_nl_*_r50, or of i3d_r50, which has no non-local blocks.
torchvision-resnet50: ImageNet weights of images, inflated; non-local blocks and classifier are left as they
start. Both need requirements-convert.txt. zjut: the checkpoint of the published MindSpore port, whose strides
in time are 1: use the result with --model.conv1_stride_t=1 --model.pool1_stride_t=1.
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
from src.inflate import inflate_like
from src.network import MODES, NonLocalI3D

TORCH = (
    (r"norm\.bn2d\.gamma$", "norm.weight"),
    (r"norm\.bn2d\.beta$", "norm.bias"),
    (r"norm\.bn2d\.moving_mean$", "norm.running_mean"),
    (r"norm\.bn2d\.moving_variance$", "norm.running_var"),
    (r"^res(\d)", lambda match: f"layer{int(match[1]) - 1}"),
)
# From our name of a parameter to the source's, by one pattern after the other.
MMACTION2 = (
    *TORCH,
    (r"\.norm\.", ".bn."),
    (r"^stem\.unit", "conv1"),
    (r"\.shortcut\.", ".downsample."),
    (r"\.non_local\.out\.", ".non_local_block.conv_out."),
    (r"\.non_local\.(g|phi)\.", r".non_local_block.\1.0."),
    (r"\.non_local\.theta\.", ".non_local_block.theta."),
    (r"\.non_local\.w_f$", ".non_local_block.concat_project.conv.weight"),
    (r"^(conv1|layer)", r"backbone.\1"),
    (r"^classifier", "cls_head.fc_cls"),
)
RESNET50 = (
    *TORCH,
    (r"^stem\.unit\.conv", "conv1"),
    (r"^stem\.unit\.norm", "bn1"),
    (r"\.shortcut\.conv", ".downsample.0"),
    (r"\.shortcut\.norm", ".downsample.1"),
    (r"\.conv(\d)\.conv", r".conv\1"),
    (r"\.conv(\d)\.norm", r".bn\1"),
)
ZJUT = (
    (r"\.non_local\.(g|phi)\.conv\.", r".non_local_block.\1.0."),
    (r"\.non_local\.theta\.conv\.", ".non_local_block.theta."),
    (r"\.conv\.weight$", ".features.0.weight"),
    (r"\.norm\.", ".features.1."),
    (r"^stem\.unit", "backbone.conv1"),
    (r"^res(\d)", lambda match: f"backbone.layer{int(match[1]) - 1}"),
    (r"(layer\d\.\d)\.(conv[12])\.", r"\1.conv12.\2."),
    (r"\.shortcut\.", ".down_sample."),
    (r"\.non_local\.out\.features\.", ".non_local_block.w."),
    (r"\.non_local\.w_f$", ".non_local_block.concat_project.0.weight"),
    (r"^classifier", "head.dense"),
)


def source_name(name, rules):
    """The source's name of our parameter `name`."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


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


# What a layout is read by, its names, and arguments of the network that its weights were trained with.
LAYOUTS = {
    "mmaction2": (read_torch, MMACTION2, {}),
    "torchvision-resnet50": (read_torch, RESNET50, {}),
    "zjut": (read_mindspore, ZJUT, {"conv1_stride_t": 1, "pool1_stride_t": 1}),
}


def arguments(tensors, layout, mode):
    """Arguments of the network that {key: array} is for: its classes, blocks and strides."""
    if layout == "torchvision-resnet50":
        return {"mode": mode}
    blocks = [set(), set(), set(), set()]
    for name in tensors:
        if found := re.match(r"backbone\.layer([1-4])\.(\d)\.non_local_block\.", name):
            blocks[int(found[1]) - 1].add(int(found[2]))
    classifier = tensors.get(source_name("classifier.bias", LAYOUTS[layout][1]))
    classes = {} if classifier is None else {"num_classes": max(classifier.size, 1)}
    return {"mode": mode, "blocks": [sorted(block) for block in blocks], **classes, **LAYOUTS[layout][2]}


def convert(tensors, layout, shapes):
    """({our name: array}, our names that keep their initialisation) from {key: array} and {our name: shape}.

    Raises UserError with every unexpected, missing, wrongly shaped and not finite tensor.
    """
    rules, inflated = LAYOUTS[layout][1], layout == "torchvision-resnet50"
    tensors = {name: array for name, array in tensors.items() if not name.endswith("num_batches_tracked")}
    initial = [name for name in shapes if inflated and re.search(r"\.non_local\.|^classifier", name)]
    sources = {name: source_name(name, rules) for name in shapes if name not in initial}
    passed_over = {"fc.weight", "fc.bias"} if inflated else set()  # the 1,000 classes of ImageNet
    faults = [f"unexpected {name}" for name in sorted(tensors.keys() - sources.values() - passed_over)]
    faults += [f"missing {name}" for name in sources.values() if name not in tensors]
    arrays = {name: tensors[source] for name, source in sources.items() if source in tensors}
    arrays = inflate_like(arrays, shapes) if inflated else arrays
    faults += [
        f"{sources[name]} is {list(array.shape)} instead of {list(shapes[name])}"
        for name, array in arrays.items()
        if array.shape != shapes[name]
    ]
    faults += [f"{name} is not finite" for name, array in tensors.items() if not np.isfinite(array).all()]
    if faults:
        raise UserError(f"not this layout, {len(faults)} tensors differ: {'; '.join(faults[:20])}")
    return arrays, initial


def logits(network):
    """Logits of one small clip, always the same."""
    clip = np.random.default_rng(0).standard_normal((1, 3, 16, 64, 64)).astype(np.float32)
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
    parser.add_argument(
        "--mode", choices=MODES, default="dot_product", help="pairwise function, which no source tells"
    )
    args = parser.parse_args(argv)
    if not args.source.is_file():
        raise UserError(f"no file at {args.source}")
    if args.dest.suffix != ".ckpt":
        raise UserError(f"DEST must end in .ckpt: {args.dest}")
    if args.dest.resolve() == args.source.resolve():
        raise UserError(f"DEST is the source: {args.dest} would be lost")
    tensors = LAYOUTS[args.layout][0](args.source)
    settings = arguments(tensors, args.layout, args.mode)
    network = NonLocalI3D(**settings)
    parameters = {parameter.name: parameter for parameter in network.get_parameters()}
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    arrays, initial = convert(tensors, args.layout, shapes)
    for name, array in arrays.items():
        parameters[name].set_data(ms.Tensor(array, ms.float32))
    answer = save(network, lambda: NonLocalI3D(**settings), args.dest)
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
