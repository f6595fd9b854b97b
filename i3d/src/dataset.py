"""Clips in: what train.py and eval.py read."""

from shared_utils.clips import LabelledVideos, TrainingData


def training_data(config, rank=0, ranks=1):
    """Batches of clips (B, 3, T, H, W) and labels (B,) of data_loader.train. Raises UserError."""
    return TrainingData(
        config.data_loader.train, config.model.num_classes, config.train.accumulate, config.seed, rank, ranks
    )


def evaluation_videos(config):
    """The videos of data_loader.eval with their labels. Raises UserError."""
    return LabelledVideos(config.data_loader.eval, config.model.num_classes)
