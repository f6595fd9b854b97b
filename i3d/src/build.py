"""The network by the configuration's section `model`."""

from shared_utils.published import check_type
from src.network import I3D


def build(config):
    """I3D as config.model says. Raises UserError."""
    check_type(config, "I3D")
    model = config.model
    return I3D(model.num_classes, model.keep_prob, model.norm_momentum)
