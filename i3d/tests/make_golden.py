"""Write golden.npz, the answers of the independent PyTorch network: python make_golden.py PEERS_DIR.

PEERS_DIR holds that network, i3d.py; torch is needed here alone. Weights and clips are functions of numpy's
frozen RandomState (`weight`, `clip`), so that the tests make them again, and the file keeps what only the
network could tell:

* the batch normalisations' moving statistics, measured layer after layer on the clip of the first case and
  jittered: drawn blindly they let activations explode, and default ones hide an import that forgets them;
* for every case the logits in float64 in evaluation mode, where the head averages what is there if that is
  less than its window, and takes the mean over all windows;
* for TRAINED the logits in training mode too, and of every parameter's gradient (of `objective`) its norm
  and its sum, both weighted by `probe`.

Written with torch 2.13.0, numpy 1.26.4 on a CPU.
"""

import sys
import zlib
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).with_name("golden.npz")
CLASSES = 7
# name: (B, 3, T, H, W)
CASES = {
    "published": (1, 3, 9, 224, 224),  # one window
    "odd": (1, 3, 17, 193, 225),  # two windows in time, two in width
    "small": (2, 3, 16, 64, 96),  # less than a window
}
TRAINED = "small"


def weight(name, shape):
    """The tensor `name` of pytorch-i3d, float32: He-normal where it has inputs, gains 0.6 to 1.4."""
    state = np.random.RandomState(zlib.crc32(name.encode()))
    if len(shape) > 1:
        values = state.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5
    elif name.endswith(".weight"):
        values = state.uniform(0.6, 1.4, shape)
    else:
        values = state.standard_normal(shape) * 0.2
    return values.astype(np.float32)


def clip(case):
    """The clips of a case, (B, 3, T, H, W) float32: blots and grain of about unit variance."""
    state = np.random.RandomState(zlib.crc32(case.encode()))
    count, _, frames, height, width = CASES[case]
    blots = state.standard_normal((count, 3, -(-frames // 4), -(-height // 16), -(-width // 16)))
    for axis, size in ((2, 4), (3, 16), (4, 16)):
        blots = blots.repeat(size, axis)
    grain = state.standard_normal(CASES[case]) * 0.3
    return (blots[:, :, :frames, :height, :width] + grain).astype(np.float32)


def probe(name, size):
    """(size,) numbers of both signs, to take a gradient's sum with."""
    return np.random.RandomState(zlib.crc32(f"probe {name}".encode())).standard_normal(size)


def objective():
    """(B, CLASSES) weights of the logits in the number that is derived."""
    return probe("logits", CASES[TRAINED][0] * CLASSES).reshape(-1, CLASSES)


def main(peers):
    sys.path.insert(0, peers)
    import torch
    from torch.nn import functional

    import i3d

    def logits(network, case):
        x = torch.from_numpy(clip(case)).to(network.logits.conv3d.weight.dtype)
        for name in i3d.ORDER:
            x = getattr(network, name)(x)
        window = [min(wanted, there) for wanted, there in zip((2, 7, 7), x.shape[2:])]
        return network.logits(functional.avg_pool3d(x, window, 1)).mean((2, 3, 4))

    network, kept = i3d.I3D(CLASSES).eval(), {}

    def measure(name):
        def hook(norm, inputs):
            if f"{name}.running_mean" in kept:  # the first clip sets them
                return
            state = np.random.RandomState(zlib.crc32(name.encode()))
            x = inputs[0].transpose(0, 1).flatten(1).double()
            std = x.std(1)
            norm.running_mean.copy_(x.mean(1) + std * torch.from_numpy(state.standard_normal(len(std)) * 0.2))
            norm.running_var.copy_(std.square() * torch.from_numpy(state.uniform(0.6, 1.6, len(std))))
            for kind in ("running_mean", "running_var"):
                kept[f"{name}.{kind}"] = getattr(norm, kind).numpy().astype(np.float32)

        return hook

    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(torch.from_numpy(weight(name, tuple(parameter.shape))))
        for name, module in network.named_modules():
            if hasattr(module, "running_mean"):
                module.register_forward_pre_hook(measure(name))
        logits(network, "published")
        network.double()
        answers = {f"logits {case}": logits(network, case).numpy() for case in CASES}
        published = network(torch.from_numpy(clip("published")).double()).numpy()
        assert np.allclose(published, answers["logits published"], atol=1e-9)
    trained = logits(network.train(), TRAINED)
    answers["training logits"] = trained.detach().numpy()
    (trained * torch.from_numpy(objective())).sum().backward()
    gradients = {name: parameter.grad.numpy().ravel() for name, parameter in network.named_parameters()}
    answers["gradients"] = np.array(
        [[np.linalg.norm(values), values @ probe(name, values.size)] for name, values in gradients.items()]
    )
    answers["gradient names"] = np.array(list(gradients))
    np.savez_compressed(GOLDEN, **kept, **answers)
    for name, values in answers.items():
        print(name, values.shape, values.ravel()[:4])
    print(f"{GOLDEN}: {GOLDEN.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
