"""transforms: each against a numpy formula of its own, on odd and oblong frames."""

import numpy as np
import pytest

from shared_utils.config import UserError
from shared_utils.transforms import BY_NAME, compose


@pytest.fixture
def clip():
    return np.random.default_rng(0).integers(0, 256, (5, 37, 53, 3), dtype=np.uint8)


def apply(clip, *operations, seed=0):
    return compose(operations)(clip, np.random.default_rng(seed))


def bilinear(clip, height, width):
    """Bilinear interpolation with half-pixel centres and repeated borders, in float64."""
    out = clip.astype(np.float64)
    for axis, size in ((1, height), (2, width)):
        old = out.shape[axis]
        place = ((np.arange(size) + 0.5) * old / size - 0.5).clip(0, old - 1)
        low = np.floor(place).astype(int)
        share = (place - low).reshape([-1 if axis == n else 1 for n in range(4)])
        out = out.take(low, axis) * (1 - share) + out.take(np.minimum(low + 1, old - 1), axis) * share
    return out


@pytest.mark.parametrize("size", [[20, 61], [37, 53], [112, 30], [1, 1]])
def test_resize_is_bilinear_interpolation(clip, size):
    out = apply(clip, {"type": "VideoResize", "size": size})
    assert out.shape == (5, *size, 3)
    assert np.abs(out - bilinear(clip, *size)).max() <= 1  # OpenCV rounds to uint8
    floats = apply(clip, {"type": "VideoRescale"}, {"type": "VideoResize", "size": size})
    np.testing.assert_allclose(floats, bilinear(clip, *size) / 255, atol=1e-5)


def test_nearest_takes_pixels_and_area_takes_means(clip):
    nearest = apply(clip, {"type": "VideoResize", "size": [74, 106], "interpolation": "nearest"})
    np.testing.assert_array_equal(nearest, clip.repeat(2, 1).repeat(2, 2))
    area = apply(clip[:, :36, :52], {"type": "VideoResize", "size": [18, 26], "interpolation": "area"})
    means = clip[:, :36, :52].reshape(5, 18, 2, 26, 2, 3).mean((2, 4))
    assert np.abs(area - means).max() <= 0.5


@pytest.mark.parametrize("upright", [False, True])
def test_short_edge_keeps_the_aspect_ratio(clip, upright):
    frames = clip.transpose(0, 2, 1, 3) if upright else clip
    out = apply(frames, {"type": "VideoShortEdgeResize", "size": 64})
    wanted = (64, round(53 * 64 / 37))
    assert out.shape[1:3] == (wanted[::-1] if upright else wanted)
    assert np.abs(out - bilinear(frames, *out.shape[1:3])).max() <= 1


def test_center_crop_leaves_equal_margins(clip):
    np.testing.assert_array_equal(
        apply(clip, {"type": "VideoCenterCrop", "size": [31, 41]}), clip[:, 3:34, 6:47]
    )
    np.testing.assert_array_equal(apply(clip, {"type": "VideoCenterCrop", "size": [37, 53]}), clip)


def test_a_place_beyond_the_edge_is_the_edge(clip):
    crop = {"type": "VideoCenterCrop", "size": [20, 20], "place": [7.0, float("-inf")]}
    np.testing.assert_array_equal(apply(clip, crop), clip[:, 17:, :20])


def test_random_crop_is_one_window_for_all_frames_and_reaches_every_place():
    frame = np.arange(6 * 7).reshape(6, 7)
    clip = np.broadcast_to(frame[None, :, :, None], (4, 6, 7, 3)).astype(np.uint8)
    rng, corners, crop = (
        np.random.default_rng(0),
        set(),
        compose([{"type": "VideoRandomCrop", "size": [4, 3]}]),
    )
    for _ in range(300):
        out = crop(clip, rng)
        top, left = divmod(int(out[0, 0, 0, 0]), 7)
        np.testing.assert_array_equal(out, clip[:, top : top + 4, left : left + 3])
        corners.add((top, left))
    assert corners == {(top, left) for top in range(3) for left in range(5)}


def test_flip_mirrors_all_frames_with_its_probability(clip):
    def flip(prob):
        return {"type": "VideoRandomHorizontalFlip", "prob": prob}

    np.testing.assert_array_equal(apply(clip, flip(1)), clip[:, :, ::-1])
    np.testing.assert_array_equal(apply(clip, flip(0)), clip)
    mirrored = [(apply(clip, flip(0.3), seed=seed) != clip).any() for seed in range(200)]
    assert 30 < sum(mirrored) < 90
    resized = apply(clip, flip(1), {"type": "VideoResize", "size": [20, 30]})
    assert np.abs(resized - bilinear(clip[:, :, ::-1], 20, 30)).max() <= 1


def test_the_published_chain_equals_its_formula(clip):
    mean, std = [0.43216, 0.394666, 0.37645], [0.22803, 0.22145, 0.216989]
    out = apply(
        clip,
        {"type": "VideoRescale", "shift": 0.0},
        {"type": "VideoCenterCrop", "size": [31, 41]},
        {"type": "VideoReOrder", "order": [3, 0, 1, 2]},
        {"type": "VideoNormalize", "mean": mean, "std": std},
    )
    wanted = ((clip[:, 3:34, 6:47] / 255.0 - mean) / std).transpose(3, 0, 1, 2)
    np.testing.assert_allclose(out, wanted, atol=1e-5)
    assert out.dtype == np.float32 and out.flags.c_contiguous


@pytest.mark.parametrize("last", ["VideoToTensor", "VideoNormalize"])
def test_what_is_looked_up_by_shade_is_bit_equal_to_what_each_transform_makes(last):
    clip = np.random.default_rng(0).integers(0, 256, (10, 260, 171, 3), np.uint8)  # looked up in four parts
    mean, std = [0.1, 0.2, 0.3], [0.2, 0.3, 0.4]
    chains = {
        "VideoToTensor": [{"type": "VideoToTensor"}],
        "VideoNormalize": [
            {"type": "VideoRescale", "rescale": 0.004, "shift": 0.1},
            {"type": "VideoReOrder", "order": [3, 0, 1, 2]},
            {"type": "VideoNormalize", "mean": mean, "std": std},
        ],
    }
    one_by_one = clip = clip[:, ::-1, 3:]
    for operation in chains[last]:
        arguments = {key: value for key, value in operation.items() if key != "type"}
        one_by_one = BY_NAME[operation["type"]](one_by_one, None, **arguments)
    assert apply(clip, *chains[last]).tobytes() == one_by_one.astype(np.float32).tobytes()
    upright = [{"type": "VideoRescale"}, {"type": "VideoReOrder", "order": [3, 0, 2, 1]}]
    assert apply(clip, *upright).shape == (3, len(clip), clip.shape[2], clip.shape[1])


def test_to_tensor_spans_minus_one_to_one(clip):
    out = apply(clip, {"type": "VideoToTensor"})
    np.testing.assert_allclose(out, clip.transpose(3, 0, 1, 2) / 127.5 - 1, atol=1e-6)
    assert out.dtype == np.float32 and out.flags.c_contiguous
    extremes = apply(np.array([0, 255], np.uint8).reshape(1, 1, 2, 1), {"type": "VideoToTensor"})
    np.testing.assert_allclose(extremes.ravel(), [-1, 1], atol=1e-6)


def test_rescale_and_reshape(clip):
    out = apply(
        clip, {"type": "VideoRescale", "rescale": 2, "shift": -1}, {"type": "VideoReshape", "shape": [37, -1]}
    )
    np.testing.assert_array_equal(out, (clip * 2.0 - 1).reshape(37, -1))


def test_what_comes_out_is_contiguous_float32_and_what_went_in_is_unchanged(clip):
    before, size = clip.copy(), [20, 20]
    arguments = {
        "VideoResize": {"size": size},
        "VideoShortEdgeResize": {"size": 20},
        "VideoReshape": {"shape": [-1]},
        "VideoRandomCrop": {"size": size},
        "VideoCenterCrop": {"size": size},
        "VideoReOrder": {"order": [0, 2, 1, 3]},
    }
    for name in BY_NAME.keys() - {"VideoNormalize"}:
        out = apply(clip, {"type": name, **arguments.get(name, {})})
        assert out.dtype == np.float32 and out.flags.c_contiguous, name
    np.testing.assert_array_equal(clip, before)


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ({"type": "VideoRezise", "size": [1, 1]}, "unknown transform VideoRezise; known are VideoResize"),
        ({"size": [1, 1]}, "unknown transform None"),
        ({"type": ["VideoResize"], "size": [1, 1]}, "unknown transform"),
        (
            {"type": "VideoResize", "size": [1, 1], "interpolation": ["linear"]},
            "interpolation must be one of",
        ),
        ("VideoToTensor", "written as `- type: VideoToTensor`"),
        (
            {"type": "VideoResize", "sise": [1, 1]},
            "VideoResize takes size, interpolation: missing.*'size'",
        ),
        ({"type": "VideoToTensor", "order": [1]}, "VideoToTensor takes no arguments: .*'order'"),
        ({"type": "VideoResize"}, "VideoResize takes size, interpolation: missing.*'size'"),
        ("VideoResize", "a transform is written as `- type: VideoResize`"),
        (3, "a transform is written as `- type: 3`"),
        (
            {"type": "VideoResize", "size": [1, 1], "interpolation": "cubic"},
            "interpolation must be one of nearest",
        ),
    ],
)
def test_wrong_names_and_arguments_are_told_at_once(operation, message):
    with pytest.raises(UserError, match=message):
        compose([operation])


def test_a_deviation_of_nothing_is_refused(clip):
    for std in ([1, 0, 1], [1, -1, 1]):
        with pytest.raises(UserError, match=r"wants std above 0, not \[1, (0|-1), 1\],"):
            apply(clip, {"type": "VideoToTensor"}, {"type": "VideoNormalize", "mean": [0, 0, 0], "std": std})


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ({"type": "VideoCenterCrop", "size": [38, 20]}, "cannot crop 38x20 from frames of 37x53"),
        ({"type": "VideoRandomCrop", "size": [20, 54]}, "cannot crop 20x54"),
        ({"type": "VideoCenterCrop", "size": [0, 20]}, "cannot crop 0x20"),
        ({"type": "VideoNormalize", "mean": [0, 0, 0], "std": [1, 1, 1]}, "VideoToTensor first"),
        ({"type": "VideoResize", "size": 112}, "VideoResize.*cannot take a uint8 clip of"),
        ({"type": "VideoResize", "size": [0, 0]}, "VideoResize.*cannot take"),
        ({"type": "VideoResize", "size": [8, 8, 8]}, "VideoResize.*cannot take"),
        ({"type": "VideoResize", "size": [10**7, 10**7]}, "VideoResize.*cannot take.*allocate"),
        ({"type": "VideoShortEdgeResize", "size": float("inf")}, "VideoShortEdgeResize.*cannot take"),
        ({"type": "VideoReOrder", "order": [0, 1, 2]}, "VideoReOrder.*cannot take"),
        ({"type": "VideoReshape", "shape": [4, -1]}, "VideoReshape.*cannot take"),
    ],
)
def test_a_clip_that_does_not_fit_is_the_users_error(clip, operation, message):
    with pytest.raises(UserError, match=message):
        apply(clip, operation)


@pytest.mark.parametrize("first", ["VideoToTensor", "VideoReOrder"])
@pytest.mark.parametrize(
    "operation",
    [
        {"type": "VideoResize", "size": [8, 8]},
        {"type": "VideoShortEdgeResize", "size": 8},
        {"type": "VideoRandomCrop", "size": [1, 8]},
        {"type": "VideoCenterCrop", "size": [1, 8]},
        {"type": "VideoRandomHorizontalFlip", "prob": 1.0},
    ],
)
def test_what_looks_at_rows_and_columns_comes_before_the_axes_change(clip, first, operation):
    first = {"type": first, **({"order": [3, 0, 1, 2]} if first == "VideoReOrder" else {})}
    apply(clip, operation, first)
    with pytest.raises(UserError, match="it comes before VideoToTensor and VideoReOrder"):
        apply(clip, first, operation)
