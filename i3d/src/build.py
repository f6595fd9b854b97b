"""The network by the configuration's section `model`."""

from shared_utils.published import check_type
from src.network import I3D


def build(config):
    """I3D as config.model says. Raises UserError."""
    check_type(config, "I3D")
    return I3D(config.model.num_classes, config.model.keep_prob)
