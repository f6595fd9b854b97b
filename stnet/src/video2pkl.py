"""Kinetics-400 videos to pickles of JPEG frames: python src/video2pkl.py kinetics-400_train.csv SRC DST 8

SRC holds `<id>_<start>_<end>.mp4`, or the same below a folder for each class; DST gets a .pkl of each with
(video id, [JPEG file of each frame as bytes], label), 8 at once. Labels are those of kinetics400_label.txt in
the working folder (generate_label.py writes it) or --labels; without it alphabetical over the list. Run
again, it goes on where it stopped, with the same labels and size. Exit status 1 when a video is missing or
could not be decoded.
"""

import argparse
import contextlib
import os
import pickle
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the model's folder, for a script inside src

from shared_utils.config import UserError
from shared_utils.datasets import kinetics400_rows, video_files, video_id
from shared_utils.metrics import writable_folder
from shared_utils.video import VideoError, probe
from src.dataset import decode
from src.generate_label import labels_of, read_labels
from src.preprocess_ucf101 import QUALITY, jpeg_frames, run_all


def write_pickle(path, dest, label, short_size, quality):
    """The video `path` as the pickle `dest`, written whole or not at all. Raises VideoError and UserError."""
    frames, temporary = [], dest.with_name(f".{dest.name}-{os.getpid()}")

    def keep(number, data):
        del frames[number:]  # a second decoder begins anew
        frames.append(data)

    jpeg_frames(path, short_size, quality, keep)
    try:
        with open(temporary, "wb") as file:
            pickle.dump((dest.stem, frames, label), file, protocol=4)
        os.replace(temporary, dest)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"cannot write {dest}: {error.strerror}") from None


def convert(job, short_size, quality):
    """write_pickle of a job (path, dest, label)."""
    write_pickle(*job, short_size, quality)


def check_kept(job, short_size):
    """Raise UserError where the pickle of a job (path, dest, label) has another label, or frames of another
    size."""
    path, dest, label = job
    try:
        height, width = decode(dest, lambda count: [0], label=label).shape[1:3]
    except VideoError as error:
        raise UserError(f"the kept {dest}: {error.reason}; name another folder, or delete it") from None
    size = short_size
    with contextlib.suppress(VideoError):  # the video may have gone bad since
        size = size or min(probe(path)[1:])
    if size and min(height, width) != size:
        raise UserError(f"{dest} has frames of {min(height, width)}, not {size} pixels: name another folder")


def main(argv):
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("list", type=Path, help="kinetics-400_train.csv")
    parser.add_argument("source", type=Path)
    parser.add_argument("dest", type=Path)
    parser.add_argument(
        "workers",
        type=int,
        nargs="?",
        default=len(os.sched_getaffinity(0)),
        help="videos at once, each in a process of 0.1 GB",
    )
    parser.add_argument("--labels", type=Path, help="kinetics400_label.txt, if it is there")
    parser.add_argument("--short_size", type=int, default=0, help="of the frames' shorter edge; 0: as it is")
    parser.add_argument("--quality", type=int, default=QUALITY, help="of the JPEG files, 1 to 100")
    args = parser.parse_args(argv)
    if args.workers < 1 or args.short_size < 0 or not 1 <= args.quality <= 100:
        raise UserError("workers must be at least 1, --short_size 0 or more, --quality 1 to 100")
    if not args.source.is_dir():
        raise UserError(f"no folder {args.source}")
    rows = kinetics400_rows(args.list)
    if not rows:
        raise UserError(f"{args.list} has no videos")
    named = args.labels or Path("kinetics400_label.txt")
    labels = read_labels(named) if args.labels or named.exists() else labels_of(rows)
    if strange := sorted({name for name, _ in rows} - labels.keys()):
        raise UserError(f"{named} has no class {strange[0]}")
    folders = [args.source, *sorted(entry for entry in args.source.iterdir() if entry.is_dir())]
    there = {video_id(path).split("/")[-1]: path for folder in folders for path in video_files(folder)}
    dest = writable_folder(args.dest)
    missing = [stem for _, stem in rows if stem not in there]
    wanted = {stem: labels[name] for name, stem in rows if stem in there}
    jobs = [(there[stem], dest / f"{stem}.pkl", label) for stem, label in wanted.items()]
    first_of_class = {job[2]: job for job in reversed(jobs) if job[1].exists()}
    for job in first_of_class.values():
        check_kept(job, args.short_size)
    jobs = [job for job in jobs if not job[1].exists()]
    bad, written = run_all(
        partial(convert, short_size=args.short_size, quality=args.quality), jobs, args.workers
    )
    for (path, _, _), reason in sorted(bad.items()):
        print(f"bad video {path}: {reason}")
    for stem in missing:
        print(f"missing video {stem}")
    print(f"{written} pickles written to {dest}, {len(bad)} bad, {len(missing)} missing")
    return 1 if bad or missing else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (UserError, VideoError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
