"""Accuracy of I3D by video: python eval.py -c FILE.yaml [--section.key=value ...]."""

from shared_utils import evaluation, metrics, published, training
from shared_utils.checkpoint import load_weights
from shared_utils.config import run
from src.build import build
from src.dataset import evaluation_videos


def main(config):
    published.check(config)
    training.start(config)
    videos = evaluation_videos(config)
    metrics.writable_folder(config.eval.output_dir)
    network = build(config)
    load_weights(network, config.eval.pretrained_model)
    evaluation.check_labels(config.eval.pretrained_model, videos.labels)
    workers = config.data_loader.eval.dataset.num_parallel_workers
    scores = evaluation.evaluate(network, videos, config.eval, workers)
    evaluation.report(scores, videos, config, config.model_name)


if __name__ == "__main__":
    run(main, __file__)
