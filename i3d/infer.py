"""Which action do videos show: python infer.py -c FILE.yaml --infer.image_path=VIDEO [--a.b=value ...].

infer.image_path names a video, a folder of videos or a .txt list; infer.pretrained_model a checkpoint, or an
exported .mindir or .onnx.
"""

from shared_utils import training
from shared_utils.config import run
from shared_utils.inference import infer
from src.build import build


def main(config):
    training.start(config)
    infer(config, lambda: build(config))


if __name__ == "__main__":
    run(main, __file__)
