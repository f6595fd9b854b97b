"""The network by the configuration's section `model`."""

from src.network import R2Plus1D18


def build(config):
    """R2Plus1D18 as config.model says."""
    model = config.model
    return R2Plus1D18(model.num_classes, model.stage_channels, model.stage_strides, model.keep_prob)
