"""Export to MINDIR or ONNX, proved equal: python export.py -c FILE.yaml [--section.key=value ...].

The file takes clips (batch, 3, T, H, W) and gives logits (batch, classes).
"""

from shared_utils import training
from shared_utils.config import run
from shared_utils.exporting import export_classifier
from src.build import build


def main(config):
    training.start(config)
    export_classifier(config, lambda: build(config))


if __name__ == "__main__":
    run(main, __file__)
