"""Write golden.npz, the answers of the independent PyTorch network: python make_golden.py PEERS_DIR.

PEERS_DIR holds that network, nonlocal_r50.py, which equals mmaction2's; torch is needed here alone.
Weights and clips are functions of numpy's frozen RandomState (`weight`, `clip`), so that the tests make them
again, and the file keeps what only the network could tell:

* the batch normalisations' moving statistics, measured layer after layer on a clip of its own and jittered:
  drawn blindly they let activations explode, and default ones hide an import that forgets them;
* for every case the logits of the network in float64, in evaluation mode, for TRAINED in training mode too;
  for "plain" without non-local blocks, for "dense" with strides of 1 in time.

Written with torch 2.13.0, numpy 1.26.4 on a CPU.
"""

import sys
import zlib
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).with_name("golden.npz")
CLASSES = 11
# name: clip (B, 3, T, H, W)
CASES = {
    "odd": (2, 3, 9, 37, 51),
    "three_steps": (1, 3, 21, 48, 32),
    "batch": (4, 3, 8, 64, 48),
    "plain": (2, 3, 9, 37, 51),
    "dense": (1, 3, 7, 35, 40),
}
TRAINED = "batch"


def weight(name, shape):
    """The tensor `name` of mmaction2's layout, float32: He-normal where it has inputs, gains about 1."""
    state = np.random.RandomState(zlib.crc32(name.encode()))
    if len(shape) > 1:
        values = state.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5
    elif name.endswith("conv_out.bn.weight"):
        values = state.uniform(0.05, 0.2, shape)  # what comes in is cubic in the features
    elif name.endswith("bn.weight"):
        values = state.uniform(0.6, 1.4, shape)
    else:
        values = state.standard_normal(shape) * 0.15
    return values.astype(np.float32)


def clip(case, shape):
    """(B, 3, T, H, W) float32: blots and grain."""
    state = np.random.RandomState(zlib.crc32(case.encode()))
    blots = state.standard_normal(
        [*shape[:2], *(-(-extent // size) for extent, size in zip(shape[2:], (4, 8, 8)))]
    )
    for axis, size in ((2, 4), (3, 8), (4, 8)):
        blots = blots.repeat(size, axis)
    grain = state.standard_normal(shape) * 0.3
    return (blots[:, :, : shape[2], : shape[3], : shape[4]] + grain).astype(np.float32)


def main(peers):
    sys.path.insert(0, peers)
    import nonlocal_r50
    import torch

    network, statistics = nonlocal_r50.NonLocalI3D(CLASSES).eval(), {}

    def measure(name):
        def hook(norm, inputs):
            state = np.random.RandomState(zlib.crc32(name.encode()))
            x = inputs[0].transpose(0, 1).flatten(1).double()
            std = x.std(1)
            norm.running_mean.copy_(x.mean(1) + std * torch.from_numpy(state.standard_normal(len(std)) * 0.2))
            norm.running_var.copy_(std.square() * torch.from_numpy(state.uniform(0.6, 1.6, len(std))))
            for kind in ("running_mean", "running_var"):
                statistics[f"{name}.{kind}"] = getattr(norm, kind).numpy().copy()

        return hook

    def logits(case):
        return network(torch.from_numpy(clip(case, CASES[case])).double()).numpy()

    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(torch.from_numpy(weight(name, tuple(parameter.shape))))
        hooks = [
            module.register_forward_pre_hook(measure(name))
            for name, module in network.named_modules()
            if hasattr(module, "running_mean")
        ]
        network(torch.from_numpy(clip("statistics", (2, 3, 16, 112, 112))))
        for hook in hooks:
            hook.remove()
        network.double()
        answers = {case: logits(case) for case in CASES if case not in ("plain", "dense")}
        answers["training"] = network.train() and logits(TRAINED)
        for name, parameter in network.state_dict().items():  # as it was before the training pass
            if name in statistics:
                parameter.copy_(torch.from_numpy(statistics[name]))
        network.eval()
        network.backbone.conv1.conv.stride = network.backbone.maxpool.stride = (1, 2, 2)
        answers["dense"] = logits("dense")
        network.backbone.conv1.conv.stride = network.backbone.maxpool.stride = (2, 2, 2)
        for module in network.modules():
            if hasattr(module, "non_local_block"):
                module.non_local_block = None
        answers["plain"] = logits("plain")
    np.savez_compressed(
        GOLDEN, **statistics, **{f"logits {case}": answer for case, answer in answers.items()}
    )
    for name, values in answers.items():
        print(f"{name}: {values.shape}, {values.min():.4f} to {values.max():.4f}, spread {values.std():.4f}")
    print(f"{GOLDEN}: {GOLDEN.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
