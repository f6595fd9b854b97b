"""Real encoded videos whose class is the motion alone, in UCF101's or Kinetics' layout, and broken ones.

    python ci/synthetic_videos.py DEST                      # UCF101's layout: 51 classes x 20 videos
    python ci/synthetic_videos.py DEST --layout kinetics --classes 8 --videos 5
    python ci/synthetic_videos.py DEST --layout bad         # truncated, empty, rotated, ... files

Shape, colour, size, place, phase, speed and background are drawn without a look at the class. The same
command again makes what is missing and leaves the rest alone.
"""

import argparse
import json
import os
import re
import string
import struct
import sys
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import ffmpeg
import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe
from tqdm import tqdm


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


def _rng(*what):
    """A generator that depends on these numbers and words alone."""
    return np.random.default_rng(zlib.crc32(" ".join(map(str, what)).encode()))


def make_video(motion, number, group_size, *, frames, height, width, seed, background):
    """Video `number` (from 0) of a class: (T, H, W, 3) uint8 and its frame rate, T in 7/8 to 5/4 of `frames`.

    A function of the arguments alone. `group_size` successive numbers are a group and share their Look.
    """
    look = draw_look(_rng("look", seed, motion, number // group_size), height, width, background)
    rng = _rng("video", seed, motion, number)
    length = int(rng.integers(frames * 7 // 8, frames * 5 // 4 + 1))
    rate = str(rng.choice(["12", "15", "25", "30000/1001"]))
    return render(motion, rng, length, height, width, look=look), rate


CODECS = {
    "avi": {"vcodec": "mpeg4", "vtag": "xvid", "qscale": 2},
    "mp4": {"vcodec": "libx264", "crf": 14, "preset": "veryfast", "pix_fmt": "yuv420p"},
    # For numbered frames: one step short of lossless, because x264 makes no B-frames at qp 0.
    "h264": {"vcodec": "libx264", "qp": 1, "bf": 2, "b_strategy": 0, "g": 12, "pix_fmt": "yuv420p"},
    "ffv1": {"vcodec": "ffv1", "pix_fmt": "yuv420p"},
}


def _run(stream, data=None):
    try:
        stream.run(get_ffmpeg_exe(), quiet=True, overwrite_output=True, input=data)
    except ffmpeg.Error as error:
        raise OSError(error.stderr.decode(errors="replace").strip().splitlines()[-1]) from None


def _encode(path, clip, rate, codec, **options):
    """Encode a clip (T, H, W, 3) uint8 at `rate` frames a second."""
    size = f"{clip.shape[2]}x{clip.shape[1]}"
    frames = ffmpeg.input("pipe:", f="rawvideo", pix_fmt="rgb24", s=size, r=rate)
    options = {**CODECS[codec], "threads": 1, "flags": "bitexact", "fflags": "bitexact", **options}
    _run(frames.output(str(path), **options), clip.tobytes())


def _finish(path, write):
    """Have write(part) fill a file that becomes `path` when it is whole; an existing one stays."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{os.getpid()}-{path.name}")
        try:
            write(part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def _claim(dest, arguments):
    """Make the folder `dest`, or go on with one made with the same arguments; refuse any other content."""
    note, arguments = dest / "synthetic.json", json.loads(json.dumps(arguments))
    if note.exists():
        made = json.loads(note.read_text())
        if differing := [name for name in arguments if made.get(name) != arguments[name]]:
            raise ValueError(f"{dest} was made with another {', '.join(differing)}: give a new folder")
    elif dest.exists() and any(dest.iterdir()):
        raise ValueError(f"{dest} is not empty and was not made by this program: give a new folder")
    _finish(note, lambda part: part.write_text(json.dumps(arguments, indent=1)))


def _write(dest, what, place, lists, *, workers=2, progress=False, **video):
    """Make the videos of `what`, each at place(motion, number), and the text files `lists`: path -> lines."""
    video = {"frames": 32, "height": 48, "width": 64, "seed": 0, "background": "plain", **video}
    classes, group_size, extension = what["classes"], what["group_size"], what["extension"]
    if unknown := set(classes) - set(MOTIONS):
        raise ValueError(f"no such motion: {', '.join(unknown)}")
    if any(video[side] < 16 or video[side] % 2 for side in ("height", "width")):
        raise ValueError("height and width must be even and at least 16")
    if video["frames"] < 4 or video["background"] not in BACKGROUNDS or extension not in ("avi", "mp4"):
        raise ValueError("videos need 4 frames, a background of plain or busy, and avi or mp4 for extension")
    _claim(dest, {**what, **video})

    def make(job):
        _finish(place(*job), lambda part: _encode(part, *make_video(*job, group_size, **video), extension))

    jobs = [(motion, number) for motion in classes for number in range(what["videos"])]
    with ThreadPoolExecutor(workers) as pool:
        for _ in tqdm(pool.map(make, jobs), total=len(jobs), unit="video", disable=not progress):
            pass
    for path, lines in lists.items():
        text = "".join(f"{line}\n" for line in lines)
        _finish(dest / path, lambda part, text=text: part.write_text(text))


def write_ucf101(dest, classes=tuple(MOTIONS), videos=20, group_size=2, extension="avi", **keywords):
    """Make `videos` a class (avi or mp4) in UCF101's layout, and class_splits/*.txt for few-shot learning.

    The first quarter of the groups is for testing. Keywords: workers=2, progress=False, frames=32, height=48,
    width=64, seed=0, background="plain". The same call again makes what is missing. ValueError, OSError.
    """
    dest, classes, groups = Path(dest), sorted(classes), -(-videos // group_size)
    if groups < 2:
        raise ValueError(f"{videos} videos a class are one group: train and test lists need a group each")

    def name(motion, number):
        group, clip = divmod(number, group_size)
        return f"{motion}/v_{motion}_g{group + 1:02}_c{clip + 1:02}.{extension}"

    def place(motion, number):
        return dest / name(motion, number)

    border = max(1, groups // 4) * group_size
    labels = {motion: label for label, motion in enumerate(classes, 1)}
    train = [f"{name(m, n)} {label}" for m, label in labels.items() for n in range(border, videos)]
    lists = {
        "ucfTrainTestlist/classInd.txt": [f"{label} {motion}" for motion, label in labels.items()],
        "ucfTrainTestlist/trainlist01.txt": train,
        "ucfTrainTestlist/testlist01.txt": [name(m, n) for m in classes for n in range(border)],
    }
    for split, names in CLASS_SPLITS.items():
        lists[f"class_splits/{split}.txt"] = [motion for motion in names if motion in labels]
    what = {"layout": "ucf101", "classes": classes, "videos": videos}
    _write(dest, {**what, "group_size": group_size, "extension": extension}, place, lists, **keywords)


def write_kinetics(dest, classes=tuple(MOTIONS), videos=20, **keywords):
    """Make `videos` a class in Kinetics-400's layout, a fifth for val, one for test; keywords as above."""
    dest, classes, seed = Path(dest), sorted(classes), keywords.get("seed", 0)
    if videos < 5:
        raise ValueError(f"train, val and test need 5 videos a class, not {videos}")

    def row(motion, number):
        rng = _rng("clip", seed, motion, number)
        code = "".join(rng.choice([*string.ascii_letters, *string.digits, "-", "_"], 11))
        label = re.sub("(?<=[a-z])(?=[A-Z])", " ", motion).lower()
        start = rng.integers(290)
        return label, code, start, start + 10, ("train", "train", "train", "val", "test")[number % 5]

    def place(motion, number):
        _, code, start, end, split = row(motion, number)
        return dest / split / f"{code}_{start:06}_{end:06}.mp4"

    lists = {
        f"kinetics-400_{split}.csv": ["label,youtube_id,time_start,time_end,split"] for split in CLASS_SPLITS
    }
    for fields in (row(motion, number) for motion in classes for number in range(videos)):
        lists[f"kinetics-400_{fields[-1]}.csv"].append(",".join(map(str, fields)))
    what = {"layout": "kinetics", "classes": classes, "videos": videos, "group_size": 1, "extension": "mp4"}
    _write(dest, what, place, lists, **keywords)


BITS = 12


def write_numbered_video(path, frames, height=32, width=96, codec="ffv1"):
    """Encode frames whose columns show their number, white for 1; ffv1, or h264 with B-frames."""
    bits = np.arange(frames)[:, None] >> np.arange(BITS)[::-1] & 1
    columns = np.uint8(255 * bits[:, np.arange(width) * BITS // width])
    _encode(path, np.broadcast_to(columns[:, None, :, None], (frames, height, width, 3)), "25", codec)


def frame_numbers(clip):
    """Read the numbers (T,) off frames (T, H, W, 3), whole or resized; ValueError where there is none."""
    middles = (2 * np.arange(BITS) + 1) * clip.shape[2] // (2 * BITS)
    light = np.asarray(clip).mean((1, 3))[:, middles]
    if ((light > 64) & (light < 191)).any():
        raise ValueError("a column is neither black nor white: no numbered frame")
    return (light > 127) @ (1 << np.arange(BITS)[::-1])


BAD_VIDEOS = {  # "bad": nobody gets a frame; "good": all can be had; "either": some, or an error
    "cut.mp4": "bad",  # in the middle, and the index was at the end
    "cut_after_index.mp4": "either",
    "cut.avi": "either",
    "hole.mp4": "either",  # the index is whole, the last third zeros
    "empty.mp4": "bad",
    "text.mp4": "bad",
    "audio_only.mp4": "bad",
    "one_frame.mp4": "good",
    "odd_size.avi": "good",  # 33 wide, 47 high
    "two_sizes.mp4": "either",  # 64 x 48, from the middle on 96 x 64
    "rotated.mp4": "good",  # 64 x 48, to be shown a quarter turn counterclockwise
    "announces_more.avi": "good",  # 1000 frames by its headers, 32 by its index
}


def write_bad_videos(dest):
    """Make the files of BAD_VIDEOS in `dest`; return name -> path."""
    dest = Path(dest)
    _claim(dest, {"layout": "bad"})
    small, large, odd = (render("Jump", _rng("bad"), 32, *size) for size in ((48, 64), (64, 96), (47, 33)))
    with tempfile.TemporaryDirectory() as scratch:

        def encoded(name, clip=small, **options):
            _encode(f"{scratch}/{name}", clip, "25", name[-3:], **options)
            return Path(scratch, name).read_bytes()

        def remuxed(name, source, **options):
            _run(ffmpeg.input(source, **options).output(f"{scratch}/{name}", c="copy"))
            return Path(scratch, name).read_bytes()

        mp4, avi, indexed = encoded("a.mp4"), encoded("a.avi"), encoded("b.mp4", movflags="faststart")
        Path(scratch, "c.h264").write_bytes(encoded("c.mp4", f="h264") + encoded("d.mp4", large, f="h264"))
        _run(ffmpeg.input("sine=duration=1", f="lavfi").output(f"{scratch}/sound.mp4"))
        kept, headers = len(indexed) * 2 // 3, bytearray(avi)
        for chunk, offset in ((b"avih", 24), (b"strh", 40)):  # where an avi's two headers count the frames
            struct.pack_into("<I", headers, avi.index(chunk) + offset, 1000)
        contents = {
            "cut.mp4": mp4[: len(mp4) // 2],
            "cut_after_index.mp4": indexed[:kept],
            "cut.avi": avi[: (avi.index(b"movi") + avi.index(b"idx1")) // 2],
            "hole.mp4": indexed[:kept].ljust(len(indexed), b"\0"),
            "empty.mp4": b"",
            "text.mp4": b"This is no video.\n",
            "audio_only.mp4": Path(scratch, "sound.mp4").read_bytes(),
            "one_frame.mp4": encoded("one.mp4", small[:1]),
            "odd_size.avi": encoded("odd.avi", odd),
            "two_sizes.mp4": remuxed("two.mp4", f"{scratch}/c.h264", r=25),
            "rotated.mp4": remuxed("rotated.mp4", f"{scratch}/a.mp4", display_rotation=90),
            "announces_more.avi": bytes(headers),
        }
    for name, content in contents.items():
        _finish(dest / name, lambda part, content=content: part.write_bytes(content))
    return {name: dest / name for name in BAD_VIDEOS}


def pick_classes(count):
    """The first `count` motions when those of train, val and test take turns in proportion."""
    place = {name: (i + 0.5) / len(names) for names in CLASS_SPLITS.values() for i, name in enumerate(names)}
    return sorted(MOTIONS, key=place.get)[:count]


def _size(text):
    height, width = text.split("x")
    return int(height), int(width)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dest", type=Path)
    parser.add_argument("--layout", choices=("ucf101", "kinetics", "bad"), default="ucf101")
    parser.add_argument(
        "--classes", type=int, default=len(MOTIONS), help="how many of the %(default)s motions"
    )
    parser.add_argument("--videos", type=int, default=20, help="how many videos a class")
    parser.add_argument("--frames", type=int, default=32, help="7/8 to 5/4 of this a video")
    parser.add_argument("--size", type=_size, default="48x64", metavar="HxW")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--background", choices=BACKGROUNDS, default="plain")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    args = parser.parse_args()
    video = {name: getattr(args, name) for name in ("frames", "seed", "background", "workers")}
    try:
        if not 1 <= args.classes <= len(MOTIONS) or args.workers < 1:
            raise ValueError(f"--classes is 1 to {len(MOTIONS)} and --workers at least 1")
        if args.layout == "bad":
            write_bad_videos(args.dest)
        else:
            write = write_ucf101 if args.layout == "ucf101" else write_kinetics
            height, width = args.size
            write(
                args.dest,
                pick_classes(args.classes),
                args.videos,
                height=height,
                width=width,
                progress=True,
                **video,
            )
    except (OSError, ValueError) as error:
        sys.exit(f"{parser.prog}: {error}")
    print(f"{args.dest}: {sum(path.suffix in ('.avi', '.mp4') for path in args.dest.rglob('*'))} videos")


if __name__ == "__main__":
    main()
