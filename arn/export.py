"""Export to MINDIR or ONNX, proved equal: python export.py -c FILE.yaml [--section.key=value ...].

The file takes support (way * shot, 3, T, H, W) and query (Q, 3, T, H, W) and gives scores (Q, way).
"""

import numpy as np

from shared_utils import device, exporting
from shared_utils.checkpoint import load_weights
from shared_utils.config import UserError, run
from src.episodes import check_positive
from src.network import ARN


def main(config):
    device.start(config)
    section = config.export
    if len(section.input_shape) != 4 or section.input_shape[0] != 3 or min(section.input_shape[1:]) < 4:
        raise UserError(
            f"export.input_shape is a clip's [3, T, H, W], T, H and W from 4 up, not {section.input_shape}"
        )
    check_positive({"export.query": section.query})
    network = ARN(**config.model)
    load_weights(network, section.pretrained_model)
    network.relation.layer1.convolve_and_pool = None  # its uneven padding gets into ONNX wrongly
    rng = np.random.default_rng(config.seed)
    clips = [
        exporting.smooth_clips(rng, count, section.input_shape)
        for count in (config.model.way * config.model.shot, section.query)
    ]
    _, proof = exporting.export(network, clips, section.file_name, section.file_format)
    print(f"{proof}; {config.model.way}-way {config.model.shot}-shot, {section.query} queries")


if __name__ == "__main__":
    run(main, __file__)
