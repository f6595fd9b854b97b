"""Write golden.npz, the answers of the independent PyTorch network: python make_golden.py PEERS_DIR.

PEERS_DIR holds that network, arn.py, written from the authors' mathematics; torch is needed here alone.
Weights and clips are functions of numpy's frozen RandomState (`weight`, `clips`), so that the tests make them
again, and the file keeps what only the network could tell:

* the batch normalisations' moving statistics, measured layer after layer on the support of the first case and
  jittered: drawn blindly they let activations explode, and default ones hide an import that forgets them;
* the last layer, scaled so that the logits have mean 0 and standard deviation 1.5: the sigmoid hides nothing;
* for every case the scores of the network in float64, in evaluation mode, and for TRAINED in training mode
  too, where support and query are one batch.

Written with torch 2.13.0, numpy 1.26.4 on a CPU.
"""

import sys
import zlib
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).with_name("golden.npz")
# name: way, shot, queries, clip (3, T, H, W)
CASES = {
    "published": (5, 1, 5, (3, 16, 128, 128)),
    "odd": (3, 2, 4, (3, 17, 50, 70)),
    "twenty_frames": (2, 1, 3, (3, 20, 48, 32)),
    "twenty_eight_frames": (2, 3, 2, (3, 28, 32, 48)),
}
TRAINED = "odd"


def weight(name, shape):
    """The tensor `name` of the authors' layout, float32: He-normal where it has inputs, gains 0.6 to 1.4."""
    state = np.random.RandomState(zlib.crc32(name.encode()))
    if len(shape) > 1:
        values = state.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5
    elif name.endswith(".weight"):
        values = state.uniform(0.6, 1.4, shape)
    else:
        values = state.standard_normal(shape) * 0.15
    return values.astype(np.float32)


def clips(case, side):
    """The support or the query clips of a case, (N, 3, T, H, W) float32: blots and grain of some contrast."""
    way, shot, queries, shape = CASES[case]
    count = way * shot if side == "support" else queries
    state = np.random.RandomState(zlib.crc32(f"{case} {side}".encode()))
    coarse = [count, 3, *(-(-extent // size) for extent, size in zip(shape[1:], (4, 16, 16)))]
    blots = state.standard_normal(coarse)
    for axis, size in ((2, 4), (3, 16), (4, 16)):
        blots = blots.repeat(size, axis)
    _, frames, height, width = shape
    contrast = state.uniform(0.5, 2.0, (count, 1, 1, 1, 1))
    grain = state.standard_normal((count, *shape)) * 0.3
    return (blots[:, :, :frames, :height, :width] * contrast + grain).astype(np.float32)


def main(peers):
    sys.path.insert(0, peers)
    import torch

    import arn

    def scores(network, case, together=False):
        network.way, network.shot = CASES[case][:2]
        dtype = network.relation_network.fc1.weight.dtype
        support, query = (torch.from_numpy(clips(case, side)).to(dtype) for side in ("support", "query"))
        if not together:
            return network(support, query)
        both, count = network.describe(torch.cat((support, query))), len(support)
        network.describe = lambda part: both[:count] if part is support else both[count:]
        return network(support, query)

    network, statistics = arn.ARN().eval(), {}

    def measure(name):
        def hook(norm, inputs):
            if f"{name}.running_mean" in statistics:  # the first batch, the support's, sets them
                return
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
        for name, module in network.named_modules():
            if hasattr(module, "running_mean"):
                module.register_forward_pre_hook(measure(name))
        head = network.relation_network.fc2
        logits = torch.logit(scores(network, "published").double())
        gain = (1.5 / logits.std()).float()
        head.bias.copy_((head.bias - logits.mean().float()) * gain)
        head.weight.mul_(gain)
        for kind in ("weight", "bias"):
            statistics[f"relation_network.fc2.{kind}"] = getattr(head, kind).numpy().copy()

        network.double()
        answers = {f"scores {case}": scores(network, case).numpy() for case in CASES}
        answers["training scores"] = scores(network.train(), TRAINED, together=True).numpy()
    np.savez_compressed(GOLDEN, **statistics, **answers)
    for name, values in answers.items():
        print(f"{name}: {values.shape}, {values.min():.4f} to {values.max():.4f}, spread {values.std():.4f}")
    print(f"{GOLDEN}: {GOLDEN.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
