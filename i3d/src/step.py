"""A training step of a classifier: loss scale, accumulation, clipping, averaged weights; by the YAML."""

import contextlib

import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, amp, nn, ops
from mindspore.common import dtype
from mindspore.train import Callback
from tqdm import tqdm

from shared_utils.config import UserError


class TrainStep(nn.Cell):
    """One update from clips (accumulate * B, 3, T, H, W) and labels (accumulate * B,) -> mean loss.

    The loss is the softmax cross-entropy of the network's logits, with `label_smoothing`.
    Gradients are taken of `loss_scale` times the loss, of B clips at a time, averaged, and over the ranks;
    then scaled back, clipped to the norm `clip_norm` (0: not), and given to the optimizer, whose own
    loss_scale is 1. With a `loss_scale` an update whose gradients are not finite is left out, and counted in
    `skipped`. With `ema` above 0 a moving average of all the network's parameters is kept in ema.*: each step
    it keeps that share of itself. Dropout is drawn from (seed, step, number of the clip). Raises UserError.
    """

    def __init__(self, network, optimizer, label_smoothing=0.0, accumulate=1, clip_norm=0.0, ema=0.0,
                 loss_scale=1.0, rank=0, ranks=1, seed=0):
        super().__init__(auto_prefix=False)
        if loss_scale <= 0 or ema >= 1 or label_smoothing > 1:
            raise UserError("optimizer.loss_scale must be above 0, train.ema below 1, loss.label_smoothing "
                            f"at most 1, not {loss_scale}, {ema} and {label_smoothing}")
        self.network, self.optimizer, self.weights = network, optimizer, optimizer.parameters
        self.label_smoothing = label_smoothing
        self.accumulate, self.clip_norm, self.ema, self.scale = accumulate, clip_norm, ema, loss_scale
        self.gradients = ops.value_and_grad(self._scaled, None, self.weights)
        self.reduce = nn.DistributedGradReducer(self.weights, True, ranks) if ranks > 1 else nn.Identity()
        self.first, self.seed = rank * accumulate, (seed * 1000003 + 2**31) % 2**32 - 2**31  # an int32
        self.current = ParameterTuple(network.get_parameters()) if ema else ()
        self.average = ParameterTuple([Parameter(weight.value().copy(), f"ema.{weight.name}", False)
                                       for weight in self.current])
        self.skipped = Parameter(Tensor(0, dtype.int32), "skipped", requires_grad=False)

    def _scaled(self, clips, labels, key):
        logits = self.network(clips, key).astype(dtype.float32)
        return ops.cross_entropy(logits, labels, label_smoothing=self.label_smoothing) * self.scale

    def _key(self, part, size):
        """Key (2,) of dropout for a part of the step: the step, the first clip among those of all ranks."""
        step = self.optimizer.global_step.astype(dtype.int32) + self.seed
        return ops.cat((step, ops.full((1,), (self.first + part) * size, dtype=dtype.int32)))

    def _part(self, clips, labels, part, size):
        """Loss and gradients of a part of the step."""
        # An index would take ten times as long as `narrow`.
        clips, labels = clips.narrow(0, part * size, size), labels.narrow(0, part * size, size)
        return self.gradients(clips, labels, self._key(part, size))

    def _update(self, gradients, factor):
        gradients = [gradient * factor for gradient in gradients] if factor != 1.0 else gradients
        if self.clip_norm:
            gradients = ops.clip_by_global_norm(tuple(gradients), self.clip_norm)
        self.optimizer(tuple(gradients))

    def construct(self, clips, labels):
        size = clips.shape[0] // self.accumulate
        loss, gradients = self._part(clips, labels, 0, size)
        for part in range(1, self.accumulate):
            more, others = self._part(clips, labels, part, size)
            loss, gradients = loss + more, [one + other for one, other in zip(gradients, others)]
        gradients = self.reduce(tuple(gradients))
        factor = 1.0 / (self.scale * self.accumulate)
        if self.scale == 1.0 or amp.all_finite(gradients):
            self._update(gradients, factor)
        else:  # the learning rate and the key of dropout go on
            ops.assign_add(self.optimizer.global_step, 1)
            ops.assign_add(self.skipped, 1)
        loss = loss * factor
        for average, weight in zip(self.average, self.current):
            ops.assign(average, average + (weight - average) * (1 - self.ema))
        return loss

    @contextlib.contextmanager
    def averaged(self):
        """The network has its averaged parameters while the context is open; the same without `ema`."""
        kept = [weight.value().copy() for weight in self.current]
        for weight, average in zip(self.current, self.average):
            weight.set_data(average.value().copy())
        try:
            yield
        finally:
            for weight, value in zip(self.current, kept):
                weight.set_data(value)


class Skipped(Callback):
    """Tells after an epoch how many updates a TrainStep has skipped. UserError where it is a whole epoch."""

    def __init__(self, step, run):
        self.step, self.run = step, run

    def _counts(self):
        return np.array([self.step.skipped.asnumpy(), self.run.step])

    def on_train_begin(self, run_context):
        self.before = self._counts()

    def on_train_step_end(self, run_context):
        epoch, step = self.run.position()
        if step < self.run.steps_per_epoch:
            return
        now = self._counts()
        (skipped, steps), self.before = now - self.before, now
        if skipped == steps == self.run.steps_per_epoch > 1:
            raise UserError(f"epoch {epoch}: no gradients are finite in {steps} updates: lower loss_scale")
        if skipped:
            tqdm.write(f"epoch: {epoch}, {skipped} of {steps} updates skipped: gradients not finite")
            self.run.note(epoch=epoch, skipped_updates=int(skipped))


def norms(network):
    """The batch norms of a network."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    return [cell for _, cell in network.cells_and_names() if isinstance(cell, kinds)]


def freeze_norm(network):
    """Let every batch norm use its moving averages, and keep them, also in training."""
    for norm in norms(network):
        norm.use_batch_statistics = False


def mixed_precision(network, level):
    """Let the network compute in float32 (O0), in float16 but for batch norm (O2), or in float16 (O3).

    Its parameters stay float32. Raises UserError for another level.
    """
    if level not in ("O0", "O2", "O3"):
        raise UserError(f"train.amp_level must be O0, O2 or O3, not {level}")
    # Not amp.auto_mixed_precision: it puts wrappers around cells, which hide the norms that networks fold.
    if level != "O0":
        network.to_float(dtype.float16)
    for norm in norms(network) if level == "O2" else ():
        norm.to_float(dtype.float32)
