"""Export to MINDIR or ONNX, proved equal: python export.py -c FILE.yaml [--section.key=value ...].

The file takes clips (batch, 3, T, H, W) and gives logits (batch, classes), with export.features the features
behind them.
"""

import numpy as np
from mindspore import nn, ops

from shared_utils import device, exporting
from shared_utils.checkpoint import load_weights
from shared_utils.config import UserError, run
from shared_utils.datasets import read_label_map, write_label_map
from src.build import build


class WithFeatures(nn.Cell):
    """Clips (B, 3, T, H, W) -> (B, classes + C): the logits, then what the classifier sees."""

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, clips):
        return ops.cat((self.network(clips), self.network.features(clips)), 1)


def main(config):
    device.start(config)
    section, frames = config.export, config.data_loader.eval.dataset.seq
    shape = (section.input_channel, frames, section.image_height, section.image_width)
    if min(section.batch_size, *shape) < 1:
        raise UserError(f"export wants clips of at least 1, not {section.batch_size} of {list(shape)}")

    network = build(config)
    load_weights(network, section.pretrained_model)
    network = WithFeatures(network) if section.features else network
    clips = exporting.smooth_clips(np.random.default_rng(config.seed), section.batch_size, shape)
    path, proof = exporting.export(network, [clips], section.file_name, section.file_format)
    write_label_map(path, read_label_map(section.pretrained_model))
    print(f"{proof}; clips {list(clips.shape)}")


if __name__ == "__main__":
    run(main, __file__)
