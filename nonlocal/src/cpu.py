"""A convolution over time that trains fast on the CPU, where MindSpore hands oneDNN the plain layout."""

from mindspore import nn, ops
from mindspore.common import dtype


class TemporalConv(nn.Cell):
    """Convolution 3x1x1 with matrix products for gradients: x (B, C, T, H, W), weight (D, C, 3, 1, 1).

    The gradients' own kernels take up to twice as long (timed as single operators). Both products share the
    output's gradient, shifted in time to each of the three taps: it is the narrow side, D = C / 4 or C / 2.
    """

    def __init__(self, channels):
        super().__init__()
        self.forward = ops.Conv3D(channels, (3, 1, 1), pad_mode="same")
        self.of_input = ops.BatchMatMul(transpose_a=True)
        self.of_weight = ops.BatchMatMul(transpose_b=True)

    def pays(self, shape):
        """Whether it is the faster way for x of `shape`: each clip of a batch needs a copy of the weights."""
        batch, channels, *positions = shape
        return batch == 1 or positions[0] * positions[1] * positions[2] > channels

    def construct(self, x, weight):
        return self.forward(x, weight)

    def bprop(self, x, weight, out, dout):
        batch, channels = x.shape[:2]
        matrix = weight.reshape(-1, channels, 3).transpose(2, 0, 1).reshape(1, -1, channels)  # (1, 3D, C)
        matrix = matrix.broadcast_to((batch, -1, -1))
        nothing = ops.zeros((*dout.shape[:2], 1, *dout.shape[3:]), dout.dtype)
        earlier = ops.concat((dout[:, :, 1:], nothing), 2)
        later = ops.concat((nothing, dout[:, :, :-1]), 2)
        taps = ops.concat((earlier, dout, later), 1).reshape(batch, matrix.shape[1], -1)  # (B, 3D, T * H * W)
        of_input = self.of_input(matrix, taps).reshape(x.shape)
        of_weight = self.of_weight(taps, x.reshape(batch, channels, -1)).sum(0)  # (3D, C)
        of_weight = of_weight.reshape(3, -1, channels).transpose(1, 2, 0).reshape(weight.shape)
        return of_input, of_weight.astype(dtype.float32)  # as the parameter; `weight` may be a float16 copy
