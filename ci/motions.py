"""Motions, shapes and backdrops of the synthetic videos, and the drawing of a clip: arrays in, arrays out."""

from typing import NamedTuple

import cv2
import numpy as np


class Pose(NamedTuple):
    """A shape over time, each field a number or (T,). Lengths in short sides of the frame, y downwards."""

    x: np.ndarray = 0.0
    y: np.ndarray = 0.0
    turn: np.ndarray = 0.0  # in turns, clockwise as seen
    wide: np.ndarray = 1.0
    tall: np.ndarray = 1.0
    light: np.ndarray = 1.0  # 0 unseen, 1 opaque


def _along(heading, way, r):
    """Pose moved by `way` (T,) towards `heading`, degrees counterclockwise from right, give or take a few."""
    angle = np.deg2rad(heading + r(-6, 6))
    return Pose(x=way * np.cos(angle), y=-way * np.sin(angle))


def _slide(heading):
    return lambda u, r: _along(heading, r(0.6, 1.1) * u, r)


def _wave(u, r, slowest, fastest):
    """A sine (T,) of random phase with between `slowest` and `fastest` periods in the video."""
    return np.sin(2 * np.pi * (r(slowest, fastest) * u + r()))


def _steps(u, count):
    """Progress (T,) from 0 to 1 that rests in the first half of each of `count` equal times."""
    whole = np.floor(u * count)
    return (whole + np.clip(2 * (u * count - whole) - 1, 0, 1)) / count


def _orbit(u, r, turns, radius):
    angle = 2 * np.pi * (turns * u + r())
    return Pose(x=radius * np.cos(angle), y=radius * np.sin(angle))


def _figure_eight(angle, width):
    return Pose(x=width * np.sin(angle), y=width / 2 * np.sin(2 * angle))


def _hop(u, height, wave, length):
    return Pose(x=length * u, y=height / 2 - height * np.sqrt(1 - wave**2))


def _scaled(growth):
    return Pose(wide=np.exp(growth), tall=np.exp(growth))


def _squashed(growth):
    return Pose(wide=np.exp(growth), tall=np.exp(-growth))


def _blink(wave):
    return Pose(light=0.5 + 0.5 * np.tanh(4 * wave))


# A motion is a function of the time u (T,), 0 at the first frame and 1 at the last, and of r = rng.uniform.
# Of 16 evenly spaced frames two neighbours differ by less than a fifth of the short side and a seventh of a
# turn (Shake and Jump aside), so that nothing seems to go backwards. Slow and fast classes share no speed.
MOTIONS = {
    "SlideRight": _slide(0),
    "SlideUp": _slide(90),
    "SlideLeft": _slide(180),
    "SlideDown": _slide(270),
    "DiagonalUpRight": _slide(45),
    "DiagonalUpLeft": _slide(135),
    "DiagonalDownLeft": _slide(225),
    "DiagonalDownRight": _slide(315),
    "AccelerateRight": lambda u, r: _along(0, r(0.7, 1.1) * u**2.2, r),
    "AccelerateDown": lambda u, r: _along(270, r(0.7, 1.1) * u**2.2, r),
    "StopAndGoUp": lambda u, r: _along(90, r(0.7, 1.1) * _steps(u, 3), r),
    "StopAndGoLeft": lambda u, r: _along(180, r(0.7, 1.1) * _steps(u, 3), r),
    "RollRight": lambda u, r: _slide(0)(u, r)._replace(turn=r(0.7, 1.1) * u),
    "RollLeft": lambda u, r: _slide(180)(u, r)._replace(turn=-r(0.7, 1.1) * u),
    "RollUp": lambda u, r: _slide(90)(u, r)._replace(turn=-r(0.7, 1.1) * u),
    "GrowLeft": lambda u, r: _scaled(r(0.9, 1.2) * (u - 0.5))._replace(x=-r(0.6, 1.1) * u),
    "ShrinkDown": lambda u, r: _scaled(r(0.9, 1.2) * (0.5 - u))._replace(y=r(0.6, 1.1) * u),
    "BlinkUp": lambda u, r: _blink(_wave(u, r, 1.6, 2.2))._replace(y=-r(0.6, 1.1) * u),
    "HopRight": lambda u, r: _hop(u, r(0.2, 0.26), _wave(u, r, 1.1, 1.6), r(0.6, 1)),
    "HopLeft": lambda u, r: _hop(u, r(0.2, 0.26), _wave(u, r, 1.1, 1.6), -r(0.6, 1)),
    "ZigZagDown": lambda u, r: Pose(x=r(0.12, 0.16) * np.arcsin(_wave(u, r, 1.6, 2.1)), y=r(0.6, 1) * u),
    "ZigZagLeft": lambda u, r: Pose(y=r(0.12, 0.16) * np.arcsin(_wave(u, r, 1.6, 2.1)), x=-r(0.6, 1) * u),
    "ShuttleHorizontal": lambda u, r: _along(0, r(0.2, 0.28) * _wave(u, r, 1, 1.5), r),
    "ShuttleDiagonal": lambda u, r: _along(45, r(0.2, 0.28) * _wave(u, r, 1, 1.5), r),
    "ShuttleAntidiagonal": lambda u, r: _along(135, r(0.2, 0.28) * _wave(u, r, 1, 1.5), r),
    "ShuttleVertical": lambda u, r: _along(90, r(0.2, 0.28) * _wave(u, r, 1, 1.5), r),
    "OrbitClockwise": lambda u, r: _orbit(u, r, r(0.9, 1.3), r(0.18, 0.25)),
    "OrbitCounterclockwise": lambda u, r: _orbit(u, r, -r(0.9, 1.3), r(0.18, 0.25)),
    "SpiralOut": lambda u, r: _orbit(u, r, -r(1.2, 1.5), r(0.24, 0.3) * u),
    "SpiralIn": lambda u, r: _orbit(u, r, r(1.2, 1.5), r(0.24, 0.3) * (1 - u)),
    "FigureEight": lambda u, r: _figure_eight(2 * np.pi * (r(0.9, 1.1) * u + r()), r(0.23, 0.3)),
    "RotateClockwise": lambda u, r: Pose(turn=r(0.8, 1.2) * u),
    "RotateCounterclockwise": lambda u, r: Pose(turn=-r(0.8, 1.2) * u),
    "TurnInSteps": lambda u, r: Pose(turn=r(0.8, 1) * _steps(u, 4)),
    "TurnAndPulse": lambda u, r: _scaled(r(0.4, 0.55) * _wave(u, r, 1.5, 2))._replace(turn=-r(0.8, 1.2) * u),
    "SwingSlow": lambda u, r: Pose(turn=r(0.09, 0.13) * _wave(u, r, 1, 1.3)),
    "SwingFast": lambda u, r: Pose(turn=r(0.09, 0.13) * _wave(u, r, 2.2, 2.6)),
    "ZoomIn": lambda u, r: _scaled(r(0.9, 1.2) * (u - 0.5)),
    "ZoomOut": lambda u, r: _scaled(r(0.9, 1.2) * (0.5 - u)),
    "GrowInSteps": lambda u, r: _scaled(r(0.9, 1.2) * (_steps(u, 3) - 0.5)),
    "PulseSlow": lambda u, r: _scaled(r(0.4, 0.55) * _wave(u, r, 1, 1.3)),
    "PulseFast": lambda u, r: _scaled(r(0.4, 0.55) * _wave(u, r, 2.2, 2.6)),
    "StretchHorizontal": lambda u, r: Pose(wide=np.exp(r(0.45, 0.6) * _wave(u, r, 1, 1.6))),
    "StretchVertical": lambda u, r: Pose(tall=np.exp(r(0.45, 0.6) * _wave(u, r, 1, 1.6))),
    "Squash": lambda u, r: _squashed(r(0.3, 0.45) * _wave(u, r, 1.5, 2.2)),
    "BlinkSlow": lambda u, r: _blink(_wave(u, r, 1, 1.3)),
    "BlinkFast": lambda u, r: _blink(_wave(u, r, 2.2, 2.8)),
    "FadeIn": lambda u, r: Pose(light=np.clip(0.5 + r(0.9, 1.1) * (u - 0.5), 0, 1)),
    "FadeOut": lambda u, r: Pose(light=np.clip(0.5 + r(0.9, 1.1) * (0.5 - u), 0, 1)),
    "Shake": lambda u, r: Pose(*r(-0.08, 0.08, (2, len(u)))),
    "Jump": lambda u, r: Pose(*r(-0.3, 0.3, (2, 6))[:, np.int64(5 * u + r(0, 0.99))]),
}

# The unseen motions are made of what the others show: each direction, both senses of turning, growth, rhythm.
VAL = ("SlideDown", "RollLeft", "ShuttleDiagonal", "TurnInSteps", "StretchVertical", "FadeOut")
TEST = ("SlideLeft", "DiagonalDownRight", "ShuttleVertical", "OrbitCounterclockwise")
TEST += ("RotateCounterclockwise", "ZoomOut", "PulseFast", "BlinkSlow")
CLASS_SPLITS = {"train": tuple(name for name in MOTIONS if name not in VAL + TEST), "val": VAL, "test": TEST}


def _arc(first, last):
    """20 points of the unit circle, degrees."""
    return [(np.cos(angle), np.sin(angle)) for angle in np.deg2rad(np.linspace(first, last, 20))]


SHAPES = (  # outlines without rotational symmetry, so that every turn is seen
    [(0, 0), (1, 0), (1, 2), (2.4, 2), (2.4, 3), (0, 3)],  # L
    [(0, 1), (2, 1), (2, 0), (3.6, 1.5), (2, 3), (2, 2), (0, 2)],  # arrow
    [(0, 0), (2.2, 0), (2.2, 1.6), (1, 1.6), (1, 3.2), (0, 3.2)],  # flag
    [(0, 0), (3, 0), (3, 1.1), (2.1, 1.1), (2.1, 3.2), (0.9, 3.2), (0.9, 1.1), (0, 1.1)],  # hammer
    [(0, 0), (3.2, 0.6), (0.6, 1.8)],  # scalene triangle
    [*_arc(45, 315), (0, 0)],  # open mouth
    [*_arc(60, 300), (2.2, 0)],  # drop
    _arc(0, 180),  # half-moon
)


class Look(NamedTuple):
    """What the videos of a group share: outline (V, 2) in [-1, 1], RGB (3,), backdrop (H, W, 3) float32."""

    outline: np.ndarray
    colour: np.ndarray
    backdrop: np.ndarray


BACKGROUNDS = ("plain", "busy")


def draw_look(rng, height, width, background="plain"):
    """Draw a bright shape on a "plain" dark backdrop or on a "busy" one of blots, grain and clutter."""
    points = np.array(SHAPES[rng.integers(len(SHAPES))]) * (rng.choice([-1, 1]), 1)
    points -= (points.min(0) + points.max(0)) / 2
    colour = rng.uniform(190, 255) * (1 - rng.uniform(0.1, 0.8) * rng.permutation([0, rng.uniform(), 1]))
    backdrop = np.full((height, width, 3), rng.uniform(0, 40, 3), np.float32)
    if background == "busy":
        blots, grain = rng.uniform(0, 140, (4, 5, 3)), rng.uniform(-30, 30, (height // 2, width // 2, 3))
        backdrop = sum(cv2.resize(part.astype(np.float32), (width, height)) for part in (blots, grain))
        for _ in range(rng.integers(4, 10)):
            corners = rng.uniform(0, 1, 2) + rng.uniform(-0.25, 0.25, (rng.integers(3, 6), 2))
            cv2.fillPoly(backdrop, [np.int32(corners * (width, height))], rng.uniform(0, 160, 3))
    return Look(points / np.linalg.norm(points, axis=1).max(), colour, np.clip(backdrop, 0, 160))


def _cover(outline, height, width):
    """How much of each pixel an outline (V, 2) in pixels covers, (H, W, 1) in 0..1; the frame is a torus."""
    mask = np.zeros((height, width), np.uint8)
    for tile in np.mgrid[-1:2, -1:2].reshape(2, 9).T * (width, height):
        cv2.fillPoly(mask, [np.int32(np.rint((outline + tile) * 16))], 255, cv2.LINE_AA, shift=4)
    return mask[..., None] / np.float32(255)


def render(motion, rng, frames, height, width, *, background="plain", look=None):
    """Draw one video of a motion, (T, H, W, 3) uint8 RGB; what leaves at one side comes in at the other."""
    outline, colour, backdrop = look or draw_look(rng, height, width, background)
    pose = MOTIONS[motion](np.linspace(0, 1, frames), rng.uniform)
    frame, short = np.array([width, height]), min(height, width)
    start, size = rng.uniform(0.3, 0.7, 2) * frame, rng.uniform(0.19, 0.27) * short
    lean, drift = rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 0.3, (2, 1)) * short / frames
    x, y, turn, wide, tall, light = (np.broadcast_to(field, frames) for field in pose)
    clip = np.empty((frames, height, width, 3), np.uint8)
    for t in range(frames):
        cos, sin = np.cos(lean + 2 * np.pi * turn[t]), np.sin(lean + 2 * np.pi * turn[t])
        body = outline @ [[cos, sin], [-sin, cos]] * (size * wide[t], size * tall[t])
        place = (start + np.array([x[t], y[t]]) * short) % frame
        cover = light[t] * _cover(body + place, height, width)
        shift = np.hstack([np.eye(2), t * drift])
        scene = cv2.warpAffine(backdrop, shift, (width, height), borderMode=cv2.BORDER_WRAP)
        clip[t] = np.rint(scene + cover * (colour - scene))
    return clip
