"""Write golden.npz, the answers of the independent PyTorch network: python make_golden.py PEERS_DIR.

PEERS_DIR holds that network, r2plus1d.py, equal to torchvision's r2plus1d_18; torch is needed here alone.
Weights and clips are functions of numpy's frozen RandomState (`weight`, `clips`), so that the tests make them
again, and the file keeps what only the network could tell:

* the batch normalisations' moving statistics, measured layer after layer on the first case and jittered:
  drawn blindly they let activations explode, and default ones hide an import that forgets them;
* for every case the logits of the network in float64, in evaluation mode;
* for TRAINED in training mode the logits, and of the mean cross-entropy's gradient for every parameter the
  length and the component along `direction`; the moving statistics of the stem after that step.

Written with torch 2.13.0, numpy 1.26.4 on a CPU.
"""

import sys
import zlib
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).with_name("golden.npz")
CLASSES = 11
# name: clips (B, 3, T, H, W)
CASES = {
    "odd": (3, 3, 9, 50, 71),
    "square": (2, 3, 8, 56, 56),
    "long": (1, 3, 25, 33, 47),
    "least": (2, 3, 1, 5, 3),
}
TRAINED = "odd"  # leaves 2x4x5 positions of each clip to the head
MOVED = ("stem.1", "stem.4")


def weight(name, shape):
    """The tensor `name` of torchvision's layout, float32: He-normal where it has inputs, gains 0.6 to 1.4."""
    state = np.random.RandomState(zlib.crc32(name.encode()))
    if len(shape) > 1:
        values = state.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5
    elif name.endswith(".weight"):
        values = state.uniform(0.6, 1.4, shape)
    else:
        values = state.standard_normal(shape) * 0.15
    return values.astype(np.float32)


def direction(name, shape):
    """A direction of length 1 in the space of the tensor `name`, along which its gradient is measured."""
    state = np.random.RandomState(zlib.crc32(f"{name} direction".encode()))
    values = state.standard_normal(shape)
    return values / np.sqrt((values**2).sum())


def clips(case):
    """The clips of a case, (B, 3, T, H, W) float32: blots and grain of some contrast."""
    shape = CASES[case]
    state = np.random.RandomState(zlib.crc32(case.encode()))
    coarse = [*shape[:2], *(-(-extent // size) for extent, size in zip(shape[2:], (4, 16, 16)))]
    blots = state.standard_normal(coarse)
    for axis, size in ((2, 4), (3, 16), (4, 16)):
        blots = blots.repeat(size, axis)
    _, _, frames, height, width = shape
    contrast = state.uniform(0.5, 2.0, (shape[0], 1, 1, 1, 1))
    grain = state.standard_normal(shape) * 0.3
    return (blots[:, :, :frames, :height, :width] * contrast + grain).astype(np.float32)


def labels(case):
    """The labels of a case's clips."""
    return np.arange(CASES[case][0]) * 3 % CLASSES


def main(peers):
    sys.path.insert(0, peers)
    import torch

    import r2plus1d

    network, statistics, answers = r2plus1d.R2Plus1D18(CLASSES).eval(), {}, {}

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

    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(torch.from_numpy(weight(name, tuple(parameter.shape))))
        hooks = [
            module.register_forward_pre_hook(measure(name))
            for name, module in network.named_modules()
            if hasattr(module, "running_mean")
        ]
        network(torch.from_numpy(clips(next(iter(CASES)))))
        for hook in hooks:
            hook.remove()
        network.double()
        for case in CASES:
            answers[f"logits {case}"] = network(torch.from_numpy(clips(case)).double()).numpy()

    logits = network.train()(torch.from_numpy(clips(TRAINED)).double())
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels(TRAINED))).backward()
    answers["training logits"] = logits.detach().numpy()
    for name, parameter in network.named_parameters():
        gradient = parameter.grad.numpy()
        along = (gradient * direction(name, gradient.shape)).sum()
        answers[f"gradient {name}"] = np.array([np.sqrt((gradient**2).sum()), along])
    for name in MOVED:
        for kind in ("running_mean", "running_var"):
            answers[f"moved {name}.{kind}"] = getattr(network.get_submodule(name), kind).numpy()

    np.savez_compressed(GOLDEN, **statistics, **answers)
    for name, values in answers.items():
        print(f"{name}: {values.shape}, {values.min():.4f} to {values.max():.4f}, spread {values.std():.4f}")
    print(f"{GOLDEN}: {GOLDEN.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
