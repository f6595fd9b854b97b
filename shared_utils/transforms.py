"""Clip transforms by the names that the YAML files use: (clip, rng, arguments) -> clip. Clips come in as
(T, H, W, C) uint8, RGB; networks want (C, T, H, W) float32. All frames get the same random choice."""
import inspect

import cv2
import numpy as np

from shared_utils.config import UserError, explain

INTERPOLATION = {"nearest": cv2.INTER_NEAREST, "bilinear": cv2.INTER_LINEAR, "linear": cv2.INTER_LINEAR,
                 "bicubic": cv2.INTER_CUBIC, "area": cv2.INTER_AREA}


def resize(clip, rng, size, interpolation="bilinear"):
    """Squash every frame to `size` (height, width)."""
    if clip.shape[1:3] == tuple(size):
        return clip
    out = np.empty((len(clip), *size, clip.shape[3]), clip.dtype)
    for source, target in zip(clip, out):
        cv2.resize(source, tuple(size)[::-1], dst=target, interpolation=INTERPOLATION[interpolation])
    return out


def short_edge_resize(clip, rng, size, interpolation="bilinear"):
    """Scale every frame so that its shorter edge has `size` pixels, keeping the aspect ratio."""
    scale = size / min(clip.shape[1:3])
    return resize(clip, rng, [round(edge * scale) for edge in clip.shape[1:3]], interpolation)


def random_crop(clip, rng, size):
    """Cut `size` (height, width) at a random place, the same in all frames."""
    return _crop(clip, size, lambda spare: rng.integers(np.add(spare, 1)))


def center_crop(clip, rng, size, place=(0.5, 0.5), longer_first=False):
    """Cut `size` (height, width) out of the middle, or with shares `place` of what is spare before it: of
    height and width, with `longer_first` of the longer and the shorter edge."""
    if longer_first and clip.shape[1] <= clip.shape[2]:
        place = place[::-1]
    return _crop(clip, size, lambda spare: np.round(spare * np.clip(place, 0, 1)).astype(int))


def horizontal_flip(clip, rng, prob=0.5):
    """Mirror left and right with probability `prob`."""
    if rng.random() >= prob:
        return clip
    rows = np.ascontiguousarray(clip).reshape(-1, *clip.shape[2:])
    return cv2.flip(rows, 1).reshape(clip.shape)  # a view would slow down what follows


def normalize(clip, rng, mean, std):
    """(clip - mean) / std by channel; the clip is (C, T, H, W) float."""
    if not np.issubdtype(clip.dtype, np.floating) or len(clip) != len(mean) or min(std) <= 0:
        raise UserError(f"VideoNormalize wants std above 0, not {list(std)}, a ({len(mean)}, T, H, W) float, "
                        f"not {clip.dtype} {clip.shape}: VideoRescale, VideoReOrder or VideoToTensor first")
    return (clip - np.float32(mean).reshape(-1, 1, 1, 1)) / np.float32(std).reshape(-1, 1, 1, 1)


BY_NAME = {"VideoResize": resize, "VideoShortEdgeResize": short_edge_resize, "VideoRandomCrop": random_crop,
           "VideoCenterCrop": center_crop, "VideoRandomHorizontalFlip": horizontal_flip,
           "VideoNormalize": normalize,
           "VideoToTensor": lambda clip, rng: (  # (T, H, W, C) of 0 to 255 -> (C, T, H, W) of -1 to 1
               np.ascontiguousarray(clip.transpose(3, 0, 1, 2)) * np.float32(2 / 255) - np.float32(1)),
           "VideoRescale": lambda clip, rng, rescale=1 / 255, shift=0.0: (
               clip * np.float32(rescale) + np.float32(shift)),
           "VideoReOrder": lambda clip, rng, order: np.ascontiguousarray(clip.transpose(order)),  # faster
           "VideoReshape": lambda clip, rng, shape: clip.reshape(shape)}
POINTWISE = ("VideoRescale", "VideoToTensor", "VideoReOrder", "VideoNormalize")  # each pixel by itself


def compose(operations, dtype=np.float32, empty=np.empty):
    """One function (clip, rng) -> clip of `dtype`, None for its own; of the YAML's [{type: name, ...}].
    Raises UserError for an unknown name or argument, the function for a clip that a transform cannot take."""
    steps = [_step(operation) for operation in operations]
    cut = next((place for place in range(len(steps), 0, -1) if steps[place - 1][0] not in POINTWISE), 0)
    table = _lookup_table(steps[cut:])

    def apply(clip, rng):
        clip = _run(steps[:cut], clip, rng)
        if table is None or clip.dtype != np.uint8 or clip.shape[3:] != (3,):
            return np.ascontiguousarray(_run(steps[cut:], clip, rng), dtype)
        out = empty((3, *clip.shape[:3]), np.float32)
        look_up(clip, table, out.reshape(3, len(clip), -1))
        return out.astype(dtype or np.float32, copy=False)

    return apply


def look_up(clip, tables, out):
    """Put what `tables` (3, 256) make of the colours of a clip (T, H, W, 3) uint8 in `out` (3, T, H * W)."""
    # Not frame by frame: threads that ask for the interpreter's lock so often spend their time waiting.
    count = max(1, 2**19 // clip[0].size)
    for start in range(0, len(clip), count):
        rows = np.ascontiguousarray(clip[start:start + count]).reshape(-1, *clip.shape[2:])
        for plane, table, target in zip(cv2.split(rows), tables, out[:, start:start + count]):
            cv2.LUT(plane.reshape(target.shape), table, dst=target)


def _run(steps, clip, rng):
    for name, function, arguments in steps:
        refused = f"{name} {arguments} cannot take a {clip.dtype} clip of {clip.shape}"
        with explain((TypeError, ValueError, ArithmeticError, MemoryError, cv2.error), refused):
            if clip.shape[-1] != 3 and name not in (*POINTWISE, "VideoReshape"):
                raise ValueError("it comes before VideoToTensor and VideoReOrder")
            clip = function(clip, rng, **arguments)
    return clip


def _lookup_table(steps):
    """What POINTWISE steps make of all shades of the three colours, (3, 256) float32, or None."""
    shades = np.arange(256, dtype=np.uint8).reshape(2, 8, 16, 1).repeat(3, axis=3)
    try:
        table = _run(steps, shades, None)
    except UserError:
        return None  # it is told for the clips
    return table.reshape(3, 256) if table.shape == (3, 2, 8, 16) and table.dtype == np.float32 else None


def _step(operation):
    """(name, function, its arguments) of an entry of the YAML's list."""
    if not hasattr(operation, "keys"):
        raise UserError(f"a transform is written as `- type: {operation}`")
    arguments = dict(operation)
    name = arguments.pop("type", None)
    if str(name) not in BY_NAME:
        raise UserError(f"unknown transform {name}; known are {', '.join(BY_NAME)}")
    if str(arguments.get("interpolation", "bilinear")) not in INTERPOLATION:
        raise UserError(f"{name}: interpolation must be one of {', '.join(INTERPOLATION)}")
    signature = inspect.signature(BY_NAME[name])
    with explain(TypeError, f"{name} takes {', '.join([*signature.parameters][2:]) or 'no arguments'}"):
        signature.bind(None, None, **arguments)
    return name, BY_NAME[name], arguments


def _crop(clip, size, choose):
    """`choose`: function of the spare (height, width) to the part that is cut off above and on the left."""
    spare = [edge - wanted for edge, wanted in zip(clip.shape[1:3], size)]
    if min(*spare, *np.subtract(size, 1)) < 0:
        raise UserError(f"cannot crop {size[0]}x{size[1]} from frames of {clip.shape[1]}x{clip.shape[2]}")
    (height, width), (top, left) = size, choose(spare)
    return clip[:, top:top + height, left:left + width]
