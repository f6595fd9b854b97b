"""Rotation and jigsaws: labels that restore the clip, the same for the features, alignment of attention."""

import mindspore as ms
import numpy as np
import pytest

from shared_utils.config import UserError
from src.loss import alignment_loss
from src.self_supervision import KINDS, Augmentation, block_orders

CLIP, FEATURES, PERMUTATIONS, BLOCKS = (8, 16, 16), (4, 4, 4), 10, 4


def pieces(clip, kind):
    """The parts that a jigsaw shuffles, in reading order, cut by plain slices."""
    if kind == "temporal_jigsaw":
        long = clip.shape[1] // BLOCKS
        return [clip[:, start : start + long] for start in range(0, clip.shape[1], long)]
    high, wide = clip.shape[2] // 2, clip.shape[3] // 2
    return [clip[:, :, y : y + high, x : x + wide] for y in (0, high) for x in (0, wide)]


def restore(clip, kind, label):
    """The clip (3, T, H, W) before it was augmented, by its label alone."""
    if kind == "rotation":
        return np.rot90(clip, -label, axes=(2, 3))
    order = block_orders(4, PERMUTATIONS)[label].tolist()
    parts = [pieces(clip, kind)[order.index(place)] for place in range(4)]
    if kind == "temporal_jigsaw":
        return np.concatenate(parts, axis=1)
    return np.concatenate([np.concatenate(parts[:2], axis=3), np.concatenate(parts[2:], axis=3)], axis=2)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def augmentation(kind):
    return Augmentation(kind, PERMUTATIONS, BLOCKS, CLIP, FEATURES)


def augment(augmentation, count=60):
    clips = np.random.default_rng(0).normal(size=(count, 3, *CLIP)).astype(np.float32)
    return clips, augmentation(clips, np.random.default_rng(1))


def test_labels_restore_the_clips(augmentation, kind):
    clips, (augmented, labels, _, _) = augment(augmentation)
    assert augmented.dtype == np.float32
    assert set(labels.tolist()) == set(range(4 if kind == "rotation" else PERMUTATIONS))
    for clip, changed, label in zip(clips, augmented, labels):
        np.testing.assert_array_equal(restore(changed, kind, label), clip)
        assert (label == 0) == np.array_equal(changed, clip)


def test_labels_are_different_augmentations(augmentation):
    clip = np.arange(np.prod(CLIP)).reshape(1, 1, *CLIP)
    seen = {}
    for seed in range(100):
        augmented, labels, _, _ = augmentation(clip, np.random.default_rng(seed))
        assert seen.setdefault(int(labels[0]), augmented.tobytes()) == augmented.tobytes()
    assert len(set(seen.values())) == augmentation.kinds == len(seen)


def test_all_frames_are_permuted_alike(augmentation, kind):
    """A clip whose frames are equal keeps equal frames; one whose pixels are equal keeps equal pixels."""
    rng = np.random.default_rng(2)
    still = np.broadcast_to(rng.normal(size=(1, 3, 1, *CLIP[1:])), (1, 3, *CLIP))
    plain = np.broadcast_to(rng.normal(size=(1, 3, CLIP[0], 1, 1)), (1, 3, *CLIP))
    for seed in range(20):
        in_space, in_time = (augmentation(clip, np.random.default_rng(seed))[0] for clip in (still, plain))
        assert (in_space == in_space[:, :, :1]).all()
        assert (in_time == in_time[..., :1, :1]).all()
        if kind == "temporal_jigsaw":
            assert np.array_equal(in_space, still)
        else:
            assert np.array_equal(in_time, plain)


def test_the_features_are_permuted_like_the_clips(augmentation):
    """Average the clip over each feature's pixels: before or after the augmentation is the same."""
    clips, (augmented, _, time, space) = augment(augmentation)

    def coarse(clip):
        shape = [extent for pair in zip(FEATURES, np.array(CLIP) // FEATURES) for extent in pair]
        return clip.reshape(len(clip), 3, *shape).mean((3, 5, 7))

    assert (time.dtype, space.dtype) == (np.int32, np.int32)
    assert (time.shape, space.shape) == ((60, 4), (60, 16))
    for features, changed, when, where in zip(coarse(clips), coarse(augmented), time, space):
        moved = features[:, when].reshape(3, 4, 16)[:, :, where].reshape(3, *FEATURES)
        np.testing.assert_allclose(moved, changed, atol=1e-6)


@pytest.mark.parametrize("blocks, permutations", [(4, 10), (4, 24), (2, 2), (5, 10)])
def test_orders_are_different_and_begin_with_the_unchanged(blocks, permutations):
    orders = block_orders(blocks, permutations).tolist()
    assert len(set(map(tuple, orders))) == permutations
    assert orders[0] == list(range(blocks))
    assert all(sorted(order) == list(range(blocks)) for order in orders)


def test_alignment_of_equivariant_attention_is_zero(augmentation, kind):
    _, (_, _, time, space) = augment(augmentation)
    rng = np.random.default_rng(3)
    temporal, spatial = rng.uniform(size=(60, 1, 4, 1, 1)), rng.uniform(size=(60, 1, 1, 4, 4))
    moved = {
        "time": np.take_along_axis(temporal.reshape(60, 4), time, 1).reshape(temporal.shape),
        "space": np.take_along_axis(spatial.reshape(60, 16), space, 1).reshape(spatial.shape),
    }
    index = {"time": time, "space": space}

    def loss(axis, attention, other, margin):
        return float(
            alignment_loss(
                *(ms.Tensor(x.astype(np.float32)) for x in (attention, other)), ms.Tensor(index[axis]), margin
            )
        )

    for axis, attention in (("time", temporal), ("space", spatial)):
        assert loss(axis, attention, moved[axis], 0.0) == 0
        assert loss(axis, attention, moved[axis], 0.3) == pytest.approx(0.09)  # margin^2
        assert loss(axis, attention, moved[axis] + 0.25, 0.0) == pytest.approx(0.0625)
        assert loss(axis, attention, moved[axis] - 0.25, 0.25) == pytest.approx(0, abs=1e-9)
        if (axis == "time") == (kind == "temporal_jigsaw"):
            assert loss(axis, attention, attention, 0.0) > 0.01  # attention that stays where it was


@pytest.mark.parametrize(
    "arguments, told",
    [
        (
            ("flip", 10, 4, CLIP, FEATURES),
            "kind must be none or one of rotation, spatial_jigsaw, temporal_jigsaw, not flip",
        ),
        (("rotation", 10, 4, (8, 16, 24), (2, 4, 6)), "square clips and features, not 16x24"),
        (("spatial_jigsaw", 10, 4, (8, 20, 16), (2, 5, 4)), "clips and features of even sides, not 5x4"),
        (("spatial_jigsaw", 25, 4, CLIP, FEATURES), "permutations must be 2 to 24"),
        (("temporal_jigsaw", 10, 4, (20, 16, 16), (5, 4, 4)), "cannot cut 5 steps into 4 equal blocks"),
        (("temporal_jigsaw", 10, 0, CLIP, FEATURES), "temporal_blocks must be 2 to 8, not 0"),
        (("temporal_jigsaw", 1, 4, CLIP, FEATURES), "permutations must be 2 to 24"),
    ],
)
def test_what_does_not_fit_is_told(arguments, told):
    with pytest.raises(UserError, match=told):
        Augmentation(*arguments)
