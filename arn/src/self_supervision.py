"""Augmentations that tell themselves: rotation, spatial and temporal jigsaw, as permutations of positions.

An augmentation is a pair of index arrays, (T,) for time and (H * W,) for space, on the clip's grid or on the
coarser one of the attention maps: position p of the augmented clip shows what was at index[p] (Section 3,
self-supervision).
"""

import itertools
import math

import numpy as np

from shared_utils.config import UserError

KINDS = ("rotation", "spatial_jigsaw", "temporal_jigsaw")


def count(kind, permutations):
    """How many augmentations of a kind there are: the classes of the self-supervised head."""
    return 4 if kind == "rotation" else permutations


def block_orders(blocks, permutations):
    """(permutations, blocks) different orders of the blocks, spread over all, the unchanged one first."""
    every = list(itertools.permutations(range(blocks)))
    chosen = np.round(np.linspace(0, len(every) - 1, permutations)).astype(int)
    return np.array(every)[chosen]


def index(kind, label, grid, permutations, blocks):
    """((T,), (H * W,)) int32: where each position of augmentation `label` on `grid` (T, H, W) comes from.

    rotation: the frames by label * 90 degrees; spatial_jigsaw: 2x2 regions in another order, the same in all
    frames; temporal_jigsaw: `blocks` equal parts of time in another order.
    """
    frames, height, width = grid
    time = np.arange(frames, dtype=np.int32)
    space = np.arange(height * width, dtype=np.int32).reshape(height, width)
    if kind == "rotation":
        space = np.rot90(space, label)
    elif kind == "spatial_jigsaw":
        regions = (
            space.reshape(2, height // 2, 2, width // 2)
            .transpose(0, 2, 1, 3)
            .reshape(4, height // 2, width // 2)
        )
        regions = regions[block_orders(4, permutations)[label]]
        space = regions.reshape(2, 2, height // 2, width // 2).transpose(0, 2, 1, 3)  # (row, y, column, x)
    elif kind == "temporal_jigsaw":
        time = time.reshape(blocks, -1)[block_orders(blocks, permutations)[label]].ravel()
    return time, np.ascontiguousarray(space).ravel()


def apply(clip, time, space):
    """The clip (..., T, H, W) with its positions permuted by the pair of `index`."""
    *_, height, width = clip.shape
    flat = clip[..., time, :, :].reshape(*clip.shape[:-2], height * width)
    return flat[..., space].reshape(clip.shape)


class Augmentation:
    """Augments clips at random and tells how: the targets of head and alignment."""

    def __init__(self, kind, permutations, temporal_blocks, clip, features):
        """`clip` and `features`: (T, H, W) of the clips and of their features.

        Raises UserError where the kind is unknown or does not fit the sizes.
        """
        _check(kind, permutations, temporal_blocks, (clip, features))
        self.kinds = count(kind, permutations)
        self.on_clip, self.on_features = (
            [index(kind, label, grid, permutations, temporal_blocks) for label in range(self.kinds)]
            for grid in (clip, features)
        )

    def __call__(self, clips, rng):
        """Clips (B, 3, T, H, W) -> augmented, label (B,), time (B, T') and space (B, H' * W') of features."""
        labels = rng.integers(self.kinds, size=len(clips)).astype(np.int32)
        augmented = np.stack([apply(clip, *self.on_clip[label]) for clip, label in zip(clips, labels)])
        time, space = zip(*(self.on_features[label] for label in labels))
        return augmented, labels, np.stack(time), np.stack(space)


def _check(kind, permutations, blocks, grids):
    if kind not in KINDS:
        raise UserError(f"self_supervision.kind must be none or one of {', '.join(KINDS)}, not {kind}")
    if kind == "temporal_jigsaw" and not 2 <= blocks <= 8:
        raise UserError(f"self_supervision.temporal_blocks must be 2 to 8, not {blocks}")
    for frames, height, width in grids:
        if kind == "rotation" and height != width:
            raise UserError(f"rotation needs square clips and features, not {height}x{width}")
        if kind == "spatial_jigsaw" and (height % 2 or width % 2):
            raise UserError(f"spatial_jigsaw needs clips and features of even sides, not {height}x{width}")
        if kind == "temporal_jigsaw" and frames % blocks:
            raise UserError(
                f"temporal_jigsaw cannot cut {frames} steps into {blocks} equal blocks "
                "(self_supervision.temporal_blocks)"
            )
    parts = {"rotation": 0, "spatial_jigsaw": 4, "temporal_jigsaw": blocks}[kind]
    if parts and not 2 <= permutations <= math.factorial(parts):
        raise UserError(
            f"self_supervision.permutations must be 2 to {math.factorial(parts)} for {kind}, "
            f"not {permutations}"
        )
