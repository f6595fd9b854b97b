"""Real encoded videos whose class is the motion alone, in UCF101's or Kinetics' layout.

    python ci/synthetic_videos.py DEST                      # UCF101's layout: 51 classes x 20 videos
    python ci/synthetic_videos.py DEST --layout kinetics --classes 8 --videos 5

Shape, colour, size, place, phase, speed and background are drawn without a look at the class. The same
command again makes what is missing and leaves the rest alone.
"""

import argparse
import json
import os
import re
import string
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ffmpeg
import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ci.motions import BACKGROUNDS, CLASS_SPLITS, MOTIONS, draw_look, render


def generator(*what):
    """A generator that depends on these numbers and words alone."""
    return np.random.default_rng(zlib.crc32(" ".join(map(str, what)).encode()))


def make_video(motion, number, group_size, *, frames, height, width, seed, background):
    """Video `number` (from 0) of a class: (T, H, W, 3) uint8 and its frame rate, T in 7/8 to 5/4 of `frames`.

    A function of the arguments alone. `group_size` successive numbers are a group and share their Look.
    """
    look = draw_look(generator("look", seed, motion, number // group_size), height, width, background)
    rng = generator("video", seed, motion, number)
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


def run_ffmpeg(stream, data=None):
    try:
        stream.run(get_ffmpeg_exe(), quiet=True, overwrite_output=True, input=data)
    except ffmpeg.Error as error:
        raise OSError(error.stderr.decode(errors="replace").strip().splitlines()[-1]) from None


def encode(path, clip, rate, codec, **options):
    """Encode a clip (T, H, W, 3) uint8 at `rate` frames a second."""
    size = f"{clip.shape[2]}x{clip.shape[1]}"
    frames = ffmpeg.input("pipe:", f="rawvideo", pix_fmt="rgb24", s=size, r=rate)
    options = {**CODECS[codec], "threads": 1, "flags": "bitexact", "fflags": "bitexact", **options}
    run_ffmpeg(frames.output(str(path), **options), clip.tobytes())


def finish(path, write):
    """Have write(part) fill a file that becomes `path` when it is whole; an existing one stays."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{os.getpid()}-{path.name}")
        try:
            write(part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def claim(dest, arguments):
    """Make the folder `dest`, or go on with one made with the same arguments; refuse any other content."""
    note, arguments = dest / "synthetic.json", json.loads(json.dumps(arguments))
    if note.exists():
        made = json.loads(note.read_text())
        if differing := [name for name in arguments if made.get(name) != arguments[name]]:
            raise ValueError(f"{dest} was made with another {', '.join(differing)}: give a new folder")
    elif dest.exists() and any(dest.iterdir()):
        raise ValueError(f"{dest} is not empty and was not made by this program: give a new folder")
    finish(note, lambda part: part.write_text(json.dumps(arguments, indent=1)))


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
    claim(dest, {**what, **video})

    def make(job):
        finish(place(*job), lambda part: encode(part, *make_video(*job, group_size, **video), extension))

    jobs = [(motion, number) for motion in classes for number in range(what["videos"])]
    with ThreadPoolExecutor(workers) as pool:
        for _ in tqdm(pool.map(make, jobs), total=len(jobs), unit="video", disable=None if progress else 1):
            pass
    for path, lines in lists.items():
        text = "".join(f"{line}\n" for line in lines)
        finish(dest / path, lambda part, text=text: part.write_text(text))


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
        rng = generator("clip", seed, motion, number)
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
    parser.add_argument("--layout", choices=("ucf101", "kinetics"), default="ucf101")
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
        write = write_ucf101 if args.layout == "ucf101" else write_kinetics
        height, width = args.size
        classes = pick_classes(args.classes)
        write(args.dest, classes, args.videos, height=height, width=width, progress=True, **video)
    except (OSError, ValueError) as error:
        sys.exit(f"{parser.prog}: {error}")
    print(f"{args.dest}: {sum(path.suffix in ('.avi', '.mp4') for path in args.dest.rglob('*'))} videos")


if __name__ == "__main__":
    main()
