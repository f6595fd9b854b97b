"""Videos, and folders of their frames as JPEG, in: by decord, or ffmpeg for what decord refuses."""
import ctypes
import os
import re
import subprocess
import unicodedata
from pathlib import Path

import cv2
import imageio
import imageio_ffmpeg
import numpy as np

from shared_utils.config import UserError, explain
from shared_utils.metrics import atomic_write

# decord gives everyone its own copy of std::random_device, with which a later import of mindspore aborts.
ctypes.CDLL("libstdc++.so.6", ctypes.RTLD_GLOBAL)
import decord  # noqa: E402  isort: skip

SUFFIXES = (".avi", ".mp4", ".mkv", ".webm", ".mov", ".mpg", ".mpeg", ".m4v")
FFMPEG_SECONDS = 300  # a decoder that takes longer for one video hangs
decord.logging.set_level(decord.logging.QUIET)  # the reasons come as errors
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # quiet, too
cv2.setLogLevel(2)  # errors alone


class VideoError(UserError):
    """A video that no decoder reads, with `path` and `reason`."""
    path, reason = property(lambda self: self.args[0]), property(lambda self: self.args[1])

    def __str__(self):
        return f"cannot decode {self.path}: {' '.join(str(self.reason).split())[:300]}"


def probe(path):
    """(frames that can be decoded, height, width) of a video. Raises VideoError."""
    counts = []
    clip = decode(path, lambda count: counts.append(count) or [0, count - 1])
    return counts[-1], *clip.shape[1:3]


def decode(path, indices, each=None, jpegs=None):
    """Frames of a video: (T, H, W, 3) uint8 RGB, frame indices[t] of it at t.
    `indices` is an array, in any order and with repetitions, or a function of the frame count to one; `each`
    is applied to every frame (H, W, 3) as soon as it is there; `jpegs` are the frames as JPEG files' bytes,
    where `path` has none. Raises VideoError, also for an index beyond the end."""
    choose = indices if callable(indices) else lambda count: indices
    path, reasons, readers = Path(path), [], {"decord: ": _read_decord, "ffmpeg: ": _read_ffmpeg}
    if jpegs is not None or path.is_dir():
        readers = {"": lambda *how: _read_jpegs(*how, jpegs)}
    elif not path.is_file():
        raise VideoError(path, "no such file")
    for name, read in readers.items():
        try:
            return read(path, choose, each or np.asarray)
        except _Refused as error:
            reasons.append(f"{name}{error}")
    raise VideoError(path, "; ".join(reasons))


def write_picture(path, clip, lines, fps=8, height=192):
    """Write a clip (T, H, W, 3) uint8 RGB as .gif or .mp4 above `lines` (text, (r, g, b)), or UserError."""
    scale = height / max(clip.shape[1], clip.shape[2] / 4)  # a very wide one is less high; h264 wants even
    height, width = (max(low, round(edge * scale) // 2 * 2) for edge, low in zip(clip.shape[1:3], (2, 160)))
    strip = np.zeros((20 * len(lines) + 4, width, 3), np.uint8)
    for row, (line, colour) in enumerate(lines):  # in letters that OpenCV can draw
        text = unicodedata.normalize("NFKD", line).encode("ascii", "ignore").decode()
        extent = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0]
        scale = 0.5 * min(1.0, (width - 8) / max(1, extent))
        cv2.putText(strip, text, (4, 20 * row + 16), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
    frames = [np.vstack([cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA), strip]) for f in clip]
    gif = str(path).endswith(".gif")
    options = {"format": "GIF", "duration": 1000 / fps, "loop": 0} if gif else {
        "format": "FFMPEG", "fps": fps, "macro_block_size": 2, "ffmpeg_log_level": "quiet"}
    with atomic_write(path) as temporary, explain(VideoError, f"cannot write {path}, disk full? Read back"):
        data = imageio.mimsave("<bytes>" if gif else temporary, frames, **options)
        if gif:  # of whose closing on a full disk imageio would leave a traceback
            temporary.write_bytes(data)
        else:  # of which ffmpeg may have written a part, without a word of imageio
            probe(temporary)


class _Refused(Exception):
    """One decoder's reason; the next one may still read the file."""


def _read_decord(path, choose, each):
    # Only forward, and over a key frame at once, to which decord would seek, where it _seeks_right. Of stamps
    # out of order (an AVI with packed B-frames) a skip, which goes by them, counts wrong now and then, and
    # the last two must differ: decord repeats the last one for those that the header has too many.
    try:
        name = os.fsencode(path.absolute()).decode()  # a file may be called pipe:0; OpenCV dies of no UTF-8
        packets = cv2.VideoCapture(name, cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])
        if not packets.isOpened() or packets.get(cv2.CAP_PROP_FRAME_COUNT) > path.stat().st_size:
            raise _Refused("no video, or more frames in its header than bytes")  # decord would abort
        reader = decord.VideoReader(name, num_threads=1)
        count = len(reader)
        stamps = reader.get_frame_timestamp(np.arange(count))[:, 0]
        ordered = count > 0 and stamps[0] >= 0 and (np.diff(stamps) > 0).all()
        if not ordered and count < 2:
            raise _Refused("no frames in the order of their time stamps")
        keys = np.array(reader.get_key_indices())
        wanted, frames, position, last = _within(choose(count), count), {}, 0, None
        keys = keys[(keys > 0) & (keys <= wanted.max())]
        early = int((keys <= wanted.min()).sum()) if ordered else 0  # of which decord seeks to the last
        keys = keys[early:] if early and _seeks_right(path, packets, count, keys[early - 1]) else keys
        if ordered and not keys.size and each is np.asarray:  # fewer copies; an error for a rotated video
            return reader.get_batch(wanted).asnumpy()
        for index in sorted({*wanted, *keys - 1, *keys} if ordered else {*wanted, count - 2, count - 1}):
            if ordered and index > position:
                reader.skip_frames(int(index - position))
                position = index
            for _ in range(position, index + 1):
                frame = reader.next()
            before, last = last, frame.asnumpy()
            if last.shape[-1] != 3:  # what decord makes of a rotated video
                raise _Refused(f"frames of {last.shape[-1]} channels")
            if index in wanted:
                frames[index] = each(last)
            position = index + 1
    except (decord.DECORDError, OSError, RuntimeError, StopIteration, UnicodeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise _Refused(re.sub(r"^\[[\d:]+\] \S+ ", "", reason)) from None
    if not ordered and np.array_equal(before, last):
        raise _Refused("perhaps fewer frames than the header has")
    return np.stack([frames[index] for index in wanted])


def _seeks_right(path, packets, count, key):
    """Whether decord counts right from frame `key` on: H.264 or MPEG-4 begins anew with it (IDR, I-VOP), as
    many of the `count` frames are shown before it as are stored before, in no MP4 in parts (mvex)."""
    stamps, anew = [], rb"\0\0\x01([\x05%Ee]|\xb6[\0-?])"
    while packets.grab():
        if len(stamps) == key and not re.search(anew, np.asarray(packets.retrieve()[1]).tobytes()):
            return False
        stamps.append(packets.get(cv2.CAP_PROP_PTS))
    whole = len(stamps) == count and b"mvex" not in np.fromfile(path, np.uint8, 2**16).tobytes()
    return whole and sorted(stamps)[key] == stamps[key]


def _read_ffmpeg(path, choose, each):
    count = len(_ffmpeg(path, "scale=1:1", "-pix_fmt", "gray", "-f", "rawvideo"))  # a byte for each frame
    if count == 0:
        raise _Refused("no frame could be decoded")
    wanted, places = np.unique(_within(choose(count), count), return_inverse=True)
    runs = np.split(wanted, np.flatnonzero(np.diff(wanted) > 1) + 1)
    select = "+".join(f"between(n,{run[0]},{run[-1]})" for run in runs)
    data = _ffmpeg(path, f"select='{select}'", "-c:v", "ppm", "-pix_fmt", "rgb24", "-f", "image2pipe")
    header = data[:data.find(b"\n255\n") + 5]  # "P6 width height 255", the same for all frames
    width, height = map(int, header.split()[1:3]) if data else (0, 0)
    if not data or len(data) != len(wanted) * (len(header) + height * width * 3):
        raise _Refused("the stream ends early")
    frames = np.frombuffer(data, np.uint8).reshape(len(wanted), -1)[:, len(header):]
    return np.stack([each(frame.reshape(height, width, 3)) for frame in frames])[places.ravel()]


def _ffmpeg(path, filters, *output):
    """What ffmpeg writes of the video, all frames in the size of the first; once more if it is killed."""
    # Where the frame size changes it would begin with new filters, and count from 0.
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-threads", "1", "-reinit_filter", "0", "-i",
               f"file:{path.resolve()}", "-map", "0:v:0", "-vf", filters, "-fps_mode", "passthrough",
               *output, "-"]
    try:
        for _ in range(2):
            done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True,
                                  timeout=FFMPEG_SECONDS)
            if 0 <= done.returncode < 255:  # what ffmpeg says of signals that it takes
                return done.stdout
        raise _Refused("ffmpeg was killed")
    except subprocess.TimeoutExpired:
        raise _Refused(f"ffmpeg took more than {FFMPEG_SECONDS} seconds") from None


def _read_jpegs(path, choose, each, jpegs):
    names = sorted(n for n in os.listdir(path) if n.endswith(".jpg")) if jpegs is None else range(len(jpegs))
    if not names:
        raise _Refused("without .jpg frames")
    wanted, frames, shape = _within(choose(len(names)), len(names)), {}, None
    for index in np.unique(wanted):  # cv2.imread would fill up a truncated file with grey
        try:
            data = jpegs[index] if jpegs is not None else (path / names[index]).read_bytes()
            frame = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        except (OSError, cv2.error):
            frame = None
        if frame is None:
            raise _Refused(f"frame {names[index]} is not a readable JPEG")
        if frame.shape != (shape := shape or frame.shape):
            raise _Refused("the frame size changes")
        frames[index] = each(frame)
    return np.stack([frames[index] for index in wanted])


def _within(indices, count):
    indices = np.asarray(indices, dtype=np.int64)
    if indices.size == 0 or indices.min() < 0 or indices.max() >= count:
        raise _Refused(f"frames {indices.tolist()[:20]} asked of a video of {count}")
    return indices
