"""Learning rate and optimizer by the YAML sections learning_rate and optimizer."""
from math import cos, pi

from mindspore import nn

from shared_utils.config import UserError


def learning_rates(section, steps_per_epoch, epochs, clips=0):
    """Learning rate of each of steps_per_epoch * epochs steps, after warmup_epochs of linear increase.
    constant; step: times lr_gamma after each of lr_epochs; cosine_annealing: half a cosine from lr to eta_min
    over max_epoch epochs (0: all). Times `clips` of a step / base_batch, where both are. Raises UserError."""
    if epochs < 1 or steps_per_epoch < 1:
        raise UserError(f"there is nothing to train in {epochs} epochs of {steps_per_epoch} steps")
    lr, low, last = section.lr, section.eta_min, section.max_epoch or epochs
    shapes = {"constant": lambda epoch: lr,
              "step": lambda epoch: lr * section.lr_gamma ** sum(epoch >= edge for edge in section.lr_epochs),
              "cosine_annealing": lambda epoch: low + (lr - low) / 2 * (1 + cos(pi * min(1, epoch / last)))}
    if section.lr_scheduler not in shapes:
        raise UserError(f"lr_scheduler must be one of {', '.join(shapes)}, not {section.lr_scheduler}")
    warmup, shape = section.warmup_epochs * steps_per_epoch, shapes[section.lr_scheduler]
    scale = clips / section.base_batch if clips and section.base_batch else 1
    return [scale * shape(step / steps_per_epoch) * min(1, (step + 1) / warmup if warmup else 1)
            for step in range(epochs * steps_per_epoch)]


def optimizer(section, parameters, rates, loss_scale=1.0):
    """SGD, Momentum or Adam with weight decay for gradients times `loss_scale`. Raises UserError."""
    if section.type not in ("SGD", "Momentum", "Adam"):
        raise UserError(f"optimizer.type must be SGD, Momentum or Adam, not {section.type}")
    if loss_scale <= 0:
        raise UserError(f"optimizer.loss_scale must be above 0, not {loss_scale}")
    shared = {"learning_rate": rates, "weight_decay": section.weight_decay, "loss_scale": loss_scale}
    return nn.Adam(parameters, **shared) if section.type == "Adam" else nn.Momentum(
        parameters, momentum=section.momentum, **shared)  # nn.SGD: the same with more memory
