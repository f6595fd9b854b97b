"""Export to MINDIR or ONNX, proved equal: python export.py --resume CKPT --file_name N --file_format F.

The file takes super-images (batch, T, 3N, H, W) and gives logits (batch, classes).
"""

import numpy as np

from shared_utils import device, exporting
from shared_utils.checkpoint import load_weights
from shared_utils.config import UserError, run
from shared_utils.datasets import read_label_map, write_label_map
from src import settings
from src.modelarts import online


@online
def main(config):
    job = settings.job(config)
    device.start(job)
    if config.export_batch_size < 1:
        raise UserError(f"export_batch_size must be at least 1, not {config.export_batch_size}")
    network, source = settings.build(config), settings.trained(config)
    load_weights(network, source)
    shape = (config.T, 3 * config.N, config.target_size, config.target_size)
    clips = exporting.smooth_clips(np.random.default_rng(config.seed), config.export_batch_size, shape)
    path, proof = exporting.export(network, [clips], config.file_name, config.file_format)
    write_label_map(path, read_label_map(source))
    print(f"{proof}; super-images {list(clips.shape)}")


if __name__ == "__main__":
    run(main, __file__)
