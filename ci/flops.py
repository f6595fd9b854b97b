"""Parameters and multiply-accumulates (MACs) of a model's network at the clip shape of its configuration.

    python ci/flops.py MODEL [-c FILE.yaml] [--section.key=value ...]

The network runs once on zeros, and each convolution, dense layer and matrix product counts. What a network
computes in another form counts as it is defined: it runs in training mode, where no layer leaves out frames
that a later one would drop; a non-local block with a dot product counts as an embedded Gaussian one, which
has the same products in the paper's order; a convolution whose taps are summed afterwards counts at the
frames that are left, and what a cell makes of its arguments `x` and `weight` as the convolution of that
weight. Parameters are those that are trained.
"""

import argparse
import contextlib
import importlib
import sys
from inspect import signature
from math import prod
from pathlib import Path
from unittest import mock

import mindspore as ms
import numpy as np
from mindspore import ops

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ci.changed_models import models
from shared_utils.config import UserError, load

ROOT = Path(__file__).resolve().parents[1]


def network_and_shapes(config):
    """A model's network by its configuration, and the shapes of its inputs."""
    if hasattr(config, "avgpool_kernel_size"):
        build = importlib.import_module("src.settings").build
        return build(config), [(1, config.T, 3 * config.N, config.target_size, config.target_size)]
    if not hasattr(config, "self_supervision"):
        build = importlib.import_module("src.build").build
        section, frames = config.export, config.data_loader.eval.dataset.seq
        return build(config), [(1, section.input_channel, frames, section.image_height, section.image_width)]
    network = importlib.import_module("src.network").ARN(**config.model)
    counts = (config.model.way * config.model.shot, config.export.query)
    return network, [(count, *config.export.input_shape) for count in counts]


def counting(kind, macs):
    """The call of a primitive of class `kind`, with its multiply-accumulates appended to `macs`."""
    call = kind.__call__

    def counted(self, x, y):
        out = call(self, x, y)
        if kind in (ops.Conv2D, ops.Conv3D):
            macs.append(out.size * prod(y.shape[1:]))  # y: weight (C', C, ...)
        else:
            macs.append(out.size * x.shape[-2 if self.transpose_a else -1])
        return out

    return counted


def multiply_accumulates(network, shapes):
    """Multiply-accumulates of the network for inputs of these shapes."""
    macs = []

    def as_defined(unit, _, out):  # the one product in it, at the places of its output (B, T, C, H, W)
        macs[-1] = unit.conv.weight.size * out.size // out.shape[2]

    def of_weight(_, inputs, out):
        macs[-1] = out.size * prod(inputs[1].shape[1:])

    for _, cell in network.cells_and_names():
        if list(signature(cell.construct).parameters) == ["x", "weight"]:  # a convolution in another form
            cell.register_forward_hook(of_weight)
        if getattr(cell, "mode", None) == "dot_product":
            cell.mode = "embedded_gaussian"
        if hasattr(cell, "taps"):
            cell.register_forward_hook(as_defined)
    with contextlib.ExitStack() as patches:
        for kind in (ops.Conv2D, ops.Conv3D, ops.BatchMatMul, ops.MatMul):
            patches.enter_context(mock.patch.object(kind, "__call__", counting(kind, macs)))
        network.set_train()(*(ms.Tensor(np.zeros(shape, np.float32)) for shape in shapes))
    return sum(macs)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", choices=models(ROOT))
    args, options = parser.parse_known_args()
    sys.path.insert(0, str(ROOT / args.model))
    ms.set_context(mode=ms.PYNATIVE_MODE)
    try:
        config = load(options, ROOT / args.model / "default_config.yaml")
        network, shapes = network_and_shapes(config)
        macs = multiply_accumulates(network, shapes)
    except UserError as error:
        sys.exit(f"error: {error}")
    parameters = sum(parameter.size for parameter in network.trainable_params())
    clips = " and ".join("x".join(map(str, shape)) for shape in shapes)
    print(f"{args.model}: {clips}, {parameters:,} parameters, {macs:,} MACs ({macs / 1e9:.3f} G)")


if __name__ == "__main__":
    main()
