"""ImageNet weights of a ResNet for super-images: names, and the first convolution's kernels (Section 4.1)."""

import re

import mindspore as ms
import numpy as np

from shared_utils import checkpoint
from shared_utils.config import UserError, explain

# From our name of a parameter to that of MindSpore's model-zoo ResNet, by one pattern after the other.
RESNET = (
    (r"^stem\.conv", "conv1"),
    (r"^stem\.norm", "bn1"),
    (r"^res(\d)", lambda match: f"layer{int(match[1]) - 1}"),
    (r"\.shortcut\.conv\.", ".down_sample_layer.0."),
    (r"\.shortcut\.norm\.", ".down_sample_layer.1."),
    (r"\.conv(\d)\.conv\.", r".conv\1."),
    (r"\.conv(\d)\.norm\.", r".bn\1."),
)
CLASSES = r"^(fc|end_point)\."  # ImageNet's 1,000
# What a checkpoint of MindSpore's trainer holds besides weights: an optimizer's and a run's state.
STATE = re.compile(
    r"(moments?\d*|accum|stat|vhat)\..*|beta\d_power|momentum|learning_rate|global_step|epoch_num|step_num|"
    r"scale_sense|(current|last_overflow)_iterator_step"
)


def source_name(name, rules):
    """The source's name of our parameter `name`."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def super_image_kernels(weight, frames):
    """Kernels of images (D, 3, h, w) -> of super-images (D, 3 * frames, h, w).

    Averaged over the colours and divided by `frames`, so that a still grey super-image gives what the grey
    image gives.
    """
    return np.repeat(weight.mean(1, keepdims=True) / frames, 3 * frames, 1).astype(weight.dtype)


def inflate(tensors, shapes, rules=RESNET):
    """({our name: array}, our names that keep their initialisation) from a ResNet's {key: array}.

    `shapes`: {our name: shape}. Raises UserError with every unexpected, missing and wrongly shaped tensor.
    """
    initial = [name for name in shapes if re.match(r"temporal|xception|classifier", name)]
    sources = {name: source_name(name, rules) for name in shapes if name not in initial}
    tensors = {key: array for key, array in tensors.items() if not re.search(CLASSES, key)}
    arrays = {name: tensors[source] for name, source in sources.items() if source in tensors}
    stem = arrays.get("stem.conv.weight")
    if stem is not None and stem.ndim == 4 and stem.shape[1] == 3:
        arrays["stem.conv.weight"] = super_image_kernels(stem, shapes["stem.conv.weight"][1] // 3)
    return checked(arrays, sources, tensors, shapes), initial


def checked(arrays, sources, tensors, shapes):
    """{our name: array}: `arrays`, each of its shape and each of `tensors` used.

    Raises UserError with every unexpected, missing, wrongly shaped and not finite tensor.
    """
    faults = [
        f"unexpected {key}"
        for key in sorted(tensors.keys() - set(sources.values()))
        if not (key.endswith("num_batches_tracked") or STATE.fullmatch(key))
    ]
    faults += [f"missing {source}" for source in sources.values() if source not in tensors]
    faults += [
        f"{sources[name]} is {list(array.shape)} instead of {list(shapes[name])}"
        for name, array in arrays.items()
        if array.shape != tuple(shapes[name])
    ]
    faults += [
        f"{sources[name]} is not finite" for name, array in arrays.items() if not np.isfinite(array).all()
    ]
    if faults:
        raise UserError(f"not this layout, {len(faults)} tensors differ: {'; '.join(faults[:20])}")
    return arrays


def load_resnet(network, path):
    """Start a StNet from the checkpoint `path`: of MindSpore's model-zoo ResNet, or one that convert.py made.

    Its classifier is left out. Raises UserError.
    """
    tensors, _ = checkpoint.load(path)
    if any(name.startswith("stem.") for name in tensors):
        checkpoint.load_weights(network, path, replace=("classifier.",))
        return
    parameters = {parameter.name: parameter for parameter in network.get_parameters()}
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    with explain(UserError, path):
        found = {name: tensor.asnumpy() for name, tensor in tensors.items() if isinstance(tensor, ms.Tensor)}
        arrays, initial = inflate(found, shapes)
    for name, array in arrays.items():
        parameters[name].set_data(ms.Tensor(array, ms.float32))
    print(f"{len(arrays)} tensors from {path}; {len(initial)} as initialised: temporal blocks and classifier")
