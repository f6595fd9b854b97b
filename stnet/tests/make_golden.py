"""Write golden.npz, the answers of the independent PyTorch network: python make_golden.py PEERS_DIR.

PEERS_DIR holds that network, stnet.py, written after PaddlePaddle's; torch is needed here alone. Weights and
clips are functions of numpy's frozen RandomState (`weight`, `clip`), so that the tests make them again, and
the file keeps what only the network could tell:

* the batch normalisations' moving statistics, measured layer after layer on a clip of its own and jittered:
  drawn blindly they let activations explode, and default ones hide an import that forgets them; for each of
  the two forms of the temporal Xception block, rounded to float16;
* for every case the logits of the network in float64, in evaluation mode, for TRAINED in training mode too.

Written with torch 2.13.0, numpy 1.26.4 on a CPU.
"""

import sys
import zlib
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).with_name("golden.npz")
CLASSES = 11
# name: (super-images (B, T, 3N, H, W), whether the temporal Xception block is dense, pooling padded as SAME)
CASES = {
    "published": ((1, 7, 15, 112, 112), False, False),
    "odd": ((2, 3, 15, 37, 51), False, False),
    "one_frame": ((1, 5, 3, 48, 33), False, False),
    "dense": ((1, 4, 15, 40, 64), True, False),
    "same_even": ((1, 2, 15, 64, 48), True, True),
    "same_odd": ((1, 2, 15, 62, 45), True, True),
    "batch": ((4, 3, 15, 64, 48), False, False),
}
TRAINED = "batch"


def weight(name, shape):
    """The tensor `name` of the peer, float32: He-normal where it has inputs, gains about 1."""
    state = np.random.RandomState(zlib.crc32(name.encode()))
    if len(shape) > 1:
        values = state.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5
    elif name.endswith(".weight"):
        values = state.uniform(0.6, 1.4, shape)
    else:
        values = state.standard_normal(shape) * 0.15
    return values.astype(np.float32)


def clip(case, shape):
    """Super-images (B, T, 3N, H, W) float32: blots that last for all the frames of a segment, and grain."""
    state = np.random.RandomState(zlib.crc32(case.encode()))
    batch, segments, channels, height, width = shape
    blots = state.standard_normal((batch, segments, channels, -(-height // 8), -(-width // 8)))
    blots = blots.repeat(8, 3).repeat(8, 4)[..., :height, :width]
    return (blots + state.standard_normal(shape) * 0.3).astype(np.float32)


def statistic(statistics, name, dense):
    """The moving statistic `name` of a form, float32; what the forms have in common is kept once."""
    own = f"dense {name}" if dense and f"dense {name}" in statistics else name
    return statistics[own].astype(np.float32)


def main(peers):
    sys.path.insert(0, peers)
    import torch

    import stnet

    answers, statistics = {}, {}

    def measure(name):
        def hook(norm, inputs):
            state = np.random.RandomState(zlib.crc32(name.encode()))
            x = inputs[0].transpose(0, 1).flatten(1).double()
            std = x.std(1)
            norm.running_mean.copy_(x.mean(1) + std * torch.from_numpy(state.standard_normal(len(std)) * 0.2))
            norm.running_var.copy_(std.square() * torch.from_numpy(state.uniform(0.6, 1.6, len(std))))

        return hook

    def pooled(same):
        if not same:
            return torch.nn.MaxPool2d(3, 2, 1)
        # TensorFlow's SAME, of which torch has no module: at the end first, an even size at the end alone.
        return lambda x: torch.nn.functional.max_pool2d(
            torch.nn.functional.pad(x, (x.shape[3] % 2, 1, x.shape[2] % 2, 1), value=-torch.inf), 3, 2
        )

    with torch.no_grad():
        for case, (shape, dense, same) in CASES.items():
            network = stnet.StNet(CLASSES, shape[1], shape[2] // 3, dense).eval()
            for name, parameter in network.named_parameters():
                parameter.copy_(torch.from_numpy(weight(name, tuple(parameter.shape))))
            if case in ("published", "dense"):  # the first of its form
                hooks = [
                    module.register_forward_pre_hook(measure(name))
                    for name, module in network.named_modules()
                    if hasattr(module, "running_mean")
                ]
                segments, network.segments = network.segments, 7
                network(torch.from_numpy(clip("statistics", (4, 7, shape[2], 96, 96))))
                network.segments = segments
                for hook in hooks:
                    hook.remove()
                for name, parameter in network.state_dict().items():
                    values = parameter.numpy().astype(np.float16)  # half the file
                    if "running" in name and not np.array_equal(values, statistics.get(name)):
                        statistics[f"dense {name}" if dense else name] = values
            for name, parameter in network.state_dict().items():
                if "running" in name:
                    parameter.copy_(torch.from_numpy(statistic(statistics, name, dense)))
            del network.maxpool
            network.maxpool = pooled(same)
            network.double()
            inputs = torch.from_numpy(clip(case, shape)).double()
            answers[case] = network(inputs).numpy()
            if case == TRAINED:
                answers["training"] = network.train()(inputs).numpy()
    np.savez_compressed(
        GOLDEN,
        **statistics,
        **{f"logits {case}": answer for case, answer in answers.items()},
    )
    for name, values in answers.items():
        print(f"{name}: {values.shape}, {values.min():.4f} to {values.max():.4f}, spread {values.std():.4f}")
    print(f"{GOLDEN}: {GOLDEN.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
