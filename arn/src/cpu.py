"""Convolutions that are fast on the CPU, where MindSpore hands oneDNN the plain layout."""

from mindspore import nn, ops
from mindspore.ops.operations.nn_ops import Conv3DBackpropInput


class Conv3(nn.Cell):
    """Convolution 3x3x3, or 3x3 with dims=2, whose weight gradient is three matrix products.

    Stride and padding are 1. The gradient's own kernel, Conv3DBackpropFilter, takes about twice as long for
    64 channels of 8x64x64 (timed as single operators). Here the output's gradient is shifted in time and the
    input in width; what is left is, for each row offset, one product that sums over all positions.
    """

    def __init__(self, channels, dims):
        super().__init__()
        self.dims = dims
        if dims == 3:
            self.forward = ops.Conv3D(channels, 3, pad_mode="pad", pad=1)
            self.input_gradient = Conv3DBackpropInput(channels, 3, pad_mode="pad", pad=1)
        else:
            self.forward = ops.Conv2D(channels, (3, 3), pad_mode="pad", pad=(1, 1, 1, 1))
            self.input_gradient = ops.Conv2DBackpropInput(channels, (3, 3), pad_mode="pad", pad=(1, 1, 1, 1))
        self.product = ops.BatchMatMul(transpose_b=True)

    def construct(self, x, weight):
        return self.forward(x, weight)

    def bprop(self, x, weight, out, dout):
        if self.dims == 3:
            return self.input_gradient(weight, dout, x.shape), self.weight_gradient(x, dout)
        gradient = self.weight_gradient(x.expand_dims(2), dout.expand_dims(2))
        return self.input_gradient(dout, weight, x.shape), gradient.squeeze(2)

    def weight_gradient(self, x, dout):
        """(channels, c, 3 or 1, 3, 3) from the input (n, c, t, h, w) and the output's gradient."""
        n, c, t, h, w = x.shape
        channels = dout.shape[1]
        row = ops.zeros((n, c, t, 1, w), x.dtype)
        column = ops.zeros((n, c, t, h + 2, 1), x.dtype)
        tall = ops.concat((row, x, row), 3)  # (n, c, t, h + 2, w)
        left, right = ops.concat((column, tall[..., :-1]), 4), ops.concat((tall[..., 1:], column), 4)
        taps = ops.concat((left, tall, right), 1)  # (n, 3c, t, h + 2, w), tap of the width first
        if self.dims == 3:
            step = ops.zeros((n, channels, 1, h, w), x.dtype)
            earlier = ops.concat((dout[:, :, 1:], step), 2)
            later = ops.concat((step, dout[:, :, :-1]), 2)
            dout = ops.concat((earlier, dout, later), 1)  # (n, 3 * channels, t, h, w), tap of time first
        shifted = dout.reshape(n, -1, t * h * w)
        rows = [taps[:, :, :, k : k + h].reshape(n, 3 * c, t * h * w) for k in range(3)]
        gradient = ops.stack([self.product(shifted, row).sum(0) for row in rows])  # (3, taps * channels, 3c)
        return gradient.reshape(3, -1, channels, 3, c).transpose(2, 4, 1, 0, 3)


class PooledConv2(nn.Cell):
    """Convolution 3x3 of (B, c, H, W), padding 1, and 2x2 max pooling: (B, channels, H/2, W/2), rounded down.

    The largest of four convolutions of stride 2, one for each place in the pooling's window, to the bit; for
    two channels of 64x64 it takes half the time of the pooling kernel (timed as single operators).
    """

    def __init__(self, channels):
        super().__init__()
        (self.top_left, self.top_right, self.bottom_left, self.bottom_right) = (
            ops.Conv2D(channels, (3, 3), pad_mode="pad", pad=(*rows, *columns), stride=2)
            for rows in ((1, 0), (0, 1))
            for columns in ((1, 0), (0, 1))
        )

    def construct(self, x, weight):
        top = ops.maximum(self.top_left(x, weight), self.top_right(x, weight))
        return ops.maximum(top, ops.maximum(self.bottom_left(x, weight), self.bottom_right(x, weight)))
