"""The network by the configuration's section `model`."""

from shared_utils.config import UserError
from src.network import NonLocalI3D


def build(config):
    """NonLocalI3D as config.model says. Raises UserError, also for clips not of in_d, in_h, in_w."""
    model = config.model
    sides = {"in_d": model.in_d, "in_h": model.in_h, "in_w": model.in_w}
    for (key, wanted), there in zip(sides.items(), clip(config)):
        if wanted != there:
            raise UserError(f"model.{key} is {wanted}, but data_loader.train makes clips of {there}")
    return NonLocalI3D(model.num_classes, model.keep_prob, model.mode, model.blocks, model.sub_sample,
                       model.conv1_stride_t, model.pool1_stride_t)


def clip(config):
    """Frames, height and width of the training clips, of the last operation that sets both."""
    train, sizes = config.data_loader.train, [(config.model.in_h, config.model.in_w)]  # where none does
    sizes += [operation.get("size") for operation in train.map.operations]
    return (train.dataset.seq, *[size for size in sizes if isinstance(size, (list, tuple))][-1])
