"""Batch norm over the clips of all ranks, as if one device had them."""

from mindspore import nn, ops
from mindspore.common import dtype


class SyncedNorm(nn.Cell):
    """Batch norm of training, in place of a norm's own: x (B, C, H, W), gamma, beta, moving averages -> (y,).

    Mean and variance are over the clips of all ranks, in float32; each rank has as many. The moving averages,
    (C,) each, go on as MindSpore's BatchNorm lets them, the variance without bias. nn.SyncBatchNorm is for
    Ascend alone.
    """

    def __init__(self, norm, ranks):
        super().__init__()
        self.eps, self.share, self.ranks = norm.eps, norm.momentum, ranks
        self.all_reduce = ops.AllReduce()

    def _mean(self, x):
        return self.all_reduce(x.mean((0, 2, 3), True)) / self.ranks

    def construct(self, x, gamma, beta, moving_mean, moving_variance):
        wide = x.astype(dtype.float32)
        mean = self._mean(wide)  # (1, C, 1, 1)
        centred = wide - mean
        variance = self._mean(ops.square(centred))
        count = x.size // x.shape[1] * self.ranks
        unbiased = variance * (count / max(1, count - 1))
        for average, batch in ((moving_mean, mean), (moving_variance, unbiased)):
            ops.assign(average, average + self.share * (ops.stop_gradient(batch).reshape(-1) - average))
        scale = gamma.reshape(1, -1, 1, 1) * ops.rsqrt(variance + self.eps)
        y = centred * scale + beta.reshape(1, -1, 1, 1)
        return (y.astype(x.dtype),)


def synchronise_norms(network, ranks):
    """Let every batch norm take the statistics of a training step from all ranks."""
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.BatchNorm2d):  # BatchNorm3d has one
            cell.bn_train = SyncedNorm(cell, ranks)
