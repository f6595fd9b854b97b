"""Accuracy of R(2+1)D-18 by video: python eval.py -c FILE.yaml [--section.key=value ...]."""

from shared_utils import evaluation, metrics, training
from shared_utils.config import run
from src.build import build
from src.dataset import evaluation_videos


def main(config):
    training.start(config)
    videos = evaluation_videos(config)
    metrics.writable_folder(config.eval.output_dir)
    network = build(config)
    evaluation.load_trained(network, config.eval.pretrained_model, videos.labels)
    evaluation.report(evaluation.evaluate(network, videos, config.eval), videos, config)


if __name__ == "__main__":
    run(main, __file__)
