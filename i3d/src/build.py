"""The network by the configuration's section `model`."""

from src.network import I3D


def build(config):
    """I3D as config.model says."""
    model = config.model
    return I3D(model.num_classes, model.keep_prob, model.norm_momentum)
