"""Two-dimensional ImageNet weights made three-dimensional (arXiv 1705.07750, Section 2.2)."""

import numpy as np


def inflate(weight, steps):
    """Filters (out, in, h, w) -> (out, in, steps, h, w): repeated over time, divided by `steps`.

    On a video that repeats one frame they answer what they answered on the frame.
    """
    return np.repeat(weight[:, :, None] / steps, steps, 2).astype(weight.dtype)


def inflate_all(arrays, shapes):
    """{name: array} with every (out, in, h, w) inflated where `shapes` has five axes under its name."""
    return {
        name: inflate(array, shapes[name][2]) if array.ndim == 4 and len(shapes[name]) == 5 else array
        for name, array in arrays.items()
    }
