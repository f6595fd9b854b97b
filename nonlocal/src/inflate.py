"""ImageNet weights for a 3D network: kernels of images repeated over time (Section 4 of arXiv 1711.07971)."""

import numpy as np


def inflate(weight, length):
    """2D kernel (D, C, h, w) -> 3D kernel (D, C, length, h, w), the same on a clip of equal frames."""
    return np.repeat(weight[:, :, None] / length, length, axis=2).astype(weight.dtype)


def inflate_like(arrays, shapes):
    """{name: array} with the 2D kernels inflated where {name: shape} asks for 3D ones."""
    return {
        name: inflate(array, shapes[name][2]) if (array.ndim, len(shapes[name])) == (4, 5) else array
        for name, array in arrays.items()
    }
