"""The network by the configuration's section `model`."""

from shared_utils.published import check_type
from src.network import R2Plus1D18


def build(config):
    """R2Plus1D18 as config.model says. Raises UserError."""
    model = config.model
    check_type(config, "R2Plus1D18")
    return R2Plus1D18(model.num_classes, model.stage_channels, model.stage_strides, model.keep_prob)
