"""Clip transforms by the names that the YAML files use.

A transform maps (clip, rng) to a clip. Clips come in as (T, H, W, C) uint8, RGB, 0 to 255; the networks want
(C, T, H, W) float32. All frames of a clip get the same random choice.
"""
from dataclasses import dataclass, fields

import cv2
import numpy as np

from shared_utils.config import UserError

INTERPOLATION = {"nearest": cv2.INTER_NEAREST, "bilinear": cv2.INTER_LINEAR, "linear": cv2.INTER_LINEAR,
                 "bicubic": cv2.INTER_CUBIC,
                 "area": cv2.INTER_AREA}


@dataclass(frozen=True)
class VideoResize:
    """Squash every frame to `size` (height, width)."""

    size: list
    interpolation: str = "bilinear"

    def __call__(self, clip, rng):
        return _resize(clip, *self.size, self.interpolation)


@dataclass(frozen=True)
class VideoShortEdgeResize:
    """Scale every frame so that its shorter edge has `size` pixels, keeping the aspect ratio."""

    size: int
    interpolation: str = "bilinear"

    def __call__(self, clip, rng):
        scale = self.size / min(clip.shape[1:3])
        return _resize(clip, *(round(edge * scale) for edge in clip.shape[1:3]), self.interpolation)


@dataclass(frozen=True)
class VideoRandomCrop:
    """Cut `size` (height, width) at a random place, the same in all frames."""

    size: list

    def __call__(self, clip, rng):
        spare = _spare(clip, self.size)
        return _crop(clip, [int(rng.integers(edge + 1)) for edge in spare], self.size)


@dataclass(frozen=True)
class VideoCenterCrop:
    """Cut `size` (height, width) out of the middle."""

    size: list

    def __call__(self, clip, rng):
        return _crop(clip, [round(edge / 2) for edge in _spare(clip, self.size)], self.size)


@dataclass(frozen=True)
class VideoRandomHorizontalFlip:
    """Mirror left and right with probability `prob`."""

    prob: float = 0.5

    def __call__(self, clip, rng):
        return clip[:, :, ::-1] if rng.random() < self.prob else clip


@dataclass(frozen=True)
class VideoRescale:
    """clip * rescale + shift, as float32."""

    rescale: float = 1 / 255
    shift: float = 0.0

    def __call__(self, clip, rng):
        return clip * np.float32(self.rescale) + np.float32(self.shift)


@dataclass(frozen=True)
class VideoToTensor:
    """(T, H, W, C) of 0 to 255 -> (C, T, H, W) float32 of -1 to 1."""

    def __call__(self, clip, rng):
        return np.ascontiguousarray(clip.transpose(3, 0, 1, 2)) * np.float32(2 / 255) - np.float32(1)


@dataclass(frozen=True)
class VideoReOrder:
    """Transpose the axes; [3, 0, 1, 2] makes (C, T, H, W) of (T, H, W, C)."""

    order: list

    def __call__(self, clip, rng):
        return np.ascontiguousarray(clip.transpose(self.order))  # 20 times as fast for what follows


@dataclass(frozen=True)
class VideoNormalize:
    """(clip - mean) / std by channel; the clip is (C, T, H, W) float."""

    mean: list
    std: list

    def __call__(self, clip, rng):
        if not np.issubdtype(clip.dtype, np.floating) or len(clip) != len(self.mean):
            raise UserError(f"VideoNormalize wants a ({len(self.mean)}, T, H, W) float clip, not "
                            f"{clip.dtype} {clip.shape}; VideoRescale, VideoReOrder or VideoToTensor first")
        mean, std = (np.float32(value).reshape(-1, 1, 1, 1) for value in (self.mean, self.std))
        return (clip - mean) / std


@dataclass(frozen=True)
class VideoReshape:
    """Reshape as numpy does; -1 once for the rest."""

    shape: list

    def __call__(self, clip, rng):
        return clip.reshape(self.shape)


@dataclass(frozen=True)
class _Cut:
    """Cut `size` at shares of the spare (longer, shorter) edges, with `corner` of (height, width)."""

    size: list
    place: tuple
    corner: bool = False
    mirror: bool = False

    def __call__(self, clip, rng):
        tall = clip.shape[1] > clip.shape[2]
        place = self.place if self.corner or tall else self.place[::-1]
        corner = [round(edge * share) for edge, share in zip(_spare(clip, self.size), place)]
        cut = _crop(clip, corner, self.size)
        return cut[:, :, ::-1] if self.mirror else cut


CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5))
CUTS = {1: (((0.5, 0.5),),), 3: tuple(((share, 0.5),) for share in (0, 0.5, 1)),
        10: tuple((place, True, mirror) for mirror in (False, True) for place in CORNERS)}
BY_NAME = {transform.__name__: transform for transform in (
    VideoResize, VideoShortEdgeResize, VideoRandomCrop, VideoCenterCrop, VideoRandomHorizontalFlip,
    VideoRescale, VideoToTensor, VideoReOrder, VideoNormalize, VideoReshape)}


def compose(operations):
    """One function (clip, rng) -> contiguous float32 clip from the YAML's list of {type: name, argument:
    value}.

    Raises UserError for an unknown name or argument, the function for a clip that a transform cannot take.
    """
    return _chain([_transform(operation) for operation in operations])


def views(operations, crops):
    """How to make `crops` (1, 3 or 10) views in space of a clip, from the YAML's list of operations.

    Returns (function of one frame to apply as it is decoded, or None; [function (clip, rng) -> view of what
    remains]). VideoCenterCrop gives way to three crops along the longer edge, or to the four corners and the
    middle with their mirror images. Raises UserError where there is none, or for another count.
    """
    steps, resize = [_transform(operation) for operation in operations], None
    if steps and isinstance(steps[0], (VideoResize, VideoShortEdgeResize)):
        resize = steps.pop(0)
    if crops not in CUTS:
        raise UserError(f"eval.num_crops must be 1, 3 or 10, not {crops}")
    places = [place for place, step in enumerate(steps) if isinstance(step, VideoCenterCrop)]
    if crops > 1 and len(places) != 1:
        raise UserError(f"{crops} crops need one VideoCenterCrop among data_loader.eval.map.operations")
    chains = [_chain(steps)] if crops == 1 else [
        _chain([*steps[:places[0]], _Cut(steps[places[0]].size, *cut), *steps[places[0] + 1:]])
        for cut in CUTS[crops]]
    return resize and (lambda frame: resize(frame[None], None)[0]), chains


def _chain(steps):
    def apply(clip, rng):
        for step in steps:
            try:
                clip = step(clip, rng)
            except (TypeError, ValueError, cv2.error) as error:
                raise UserError(f"{step} cannot take a {clip.dtype} clip of {clip.shape}: {error}") from None
        return np.ascontiguousarray(clip, dtype=np.float32)

    return apply


def _transform(operation):
    if isinstance(operation, str):
        raise UserError(f"a transform is written as `- type: {operation}`")
    arguments = dict(operation)
    name = arguments.pop("type", None)
    if name not in BY_NAME:
        raise UserError(f"unknown transform {name}; known are {', '.join(BY_NAME)}")
    known = [field.name for field in fields(BY_NAME[name])]
    if unknown := sorted(set(arguments) - set(known)):
        raise UserError(f"{name} has no argument {unknown[0]}; it takes {', '.join(known) or 'none'}")
    if arguments.get("interpolation", "bilinear") not in INTERPOLATION:
        raise UserError(f"{name}: interpolation must be one of {', '.join(INTERPOLATION)}")
    try:
        return BY_NAME[name](**arguments)
    except TypeError as error:
        raise UserError(f"{name}: {error}") from None


def _resize(clip, height, width, interpolation):
    if clip.shape[1:3] == (height, width):
        return clip
    out = np.empty((len(clip), height, width, clip.shape[3]), clip.dtype)
    for source, target in zip(clip, out):
        cv2.resize(source, (width, height), dst=target, interpolation=INTERPOLATION[interpolation])
    return out


def _spare(clip, size):
    spare = [edge - wanted for edge, wanted in zip(clip.shape[1:3], size)]
    if min(spare) < 0:
        raise UserError(f"cannot crop {size[0]}x{size[1]} from frames of {clip.shape[1]}x{clip.shape[2]}")
    return spare


def _crop(clip, corner, size):
    top, left = corner
    return clip[:, top:top + size[0], left:left + size[1]]
