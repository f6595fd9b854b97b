"""Decode every video of UCF101 once into small JPEG frames, which training reads many times as fast.

    python src/preprocess_ucf101.py --source_data_dir UCF101 --output_dir UCF101_frames

`<Class>/<video>.avi` becomes the folder `<Class>/<video>` of 000000.jpg, 000001.jpg, ..., whose shorter edge
has --short_size pixels; the official lists are copied, so that the output is a data set like the source.
Sources stay as they are. Run again, it goes on where it stopped. What failed is told and kept in
preprocess_report.json; the exit status is 1 then.
"""

import argparse
import contextlib
import errno
import json
import os
import shutil
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import connection, get_context, parent_process
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the model's folder, for a script inside src

import cv2
import numpy as np
from tqdm import tqdm

from shared_utils.config import UserError
from shared_utils.datasets import video_files, video_id
from shared_utils.metrics import writable_folder, write_text
from shared_utils.transforms import short_edge_resize
from shared_utils.video import VideoError, decode, probe

QUALITY = 90  # of JPEG files, as faithful as those of ffmpeg's -q:v 2


def jpeg_frames(path, short_size, quality, keep):
    """Decode `path` and call keep(number, JPEG file as bytes) for each frame in turn: the count of frames.

    `short_size`: of the shorter edge, 0: as it is. Raises VideoError.
    """
    numbers = iter(())

    def choose(count):  # called again where a second decoder begins anew
        nonlocal numbers
        numbers = iter(range(count))
        return range(count)

    def each(frame):
        frame = short_edge_resize(frame[None], None, short_size)[0] if short_size else frame
        frame = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])
        keep(next(numbers), data.tobytes())
        return np.empty(0)  # nothing stays in memory

    return len(decode(path, choose, each=each))


def write_frames(path, folder, short_size, quality):
    """The frames of the video `path` in `folder`, which appears when it is complete: their count.

    Raises VideoError, and UserError where nothing can be written.
    """
    partial = folder.with_name(f".{folder.name}.partial")

    def keep(number, data):
        with open(f"{partial}/{number:06d}.jpg", "wb", buffering=0) as file:
            if file.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    try:
        partial.mkdir(parents=True, exist_ok=True)
        count = jpeg_frames(path, short_size, quality, keep)
        for name in {*os.listdir(partial)} - {f"{number:06d}.jpg" for number in range(count)}:
            os.remove(partial / name)  # of a decoder that was given up, or a run cut short
        os.replace(partial, folder)
    except VideoError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}") from None
    return count


def preprocess_video(path, output, short_size, quality):
    """The frames of the video `path` at their place below `output`. Raises VideoError and UserError."""
    write_frames(path, output / video_id(path), short_size, quality)


def run_all(function, items, workers):
    """({item: reason} of those whose function(item) raised VideoError, count of the others), with progress.

    `function` is a module's, or a partial of one: processes call it, `workers` at once, as the published
    video2pkl.py does. (With two, threads took as long.) Raises the first UserError.
    """
    bad, done = {}, 0
    workers = max(1, min(workers, len(items)))
    try:
        # spawn: a fork of a process that has threads may hang
        with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin) as pool:
            try:
                jobs = {pool.submit(function, item): item for item in items}
                for job in tqdm(as_completed(jobs), "videos", len(jobs), disable=not sys.stderr.isatty()):
                    try:
                        job.result()
                        done += 1
                    except VideoError as error:
                        bad[jobs[job]] = error.reason
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    except BrokenProcessPool:
        raise UserError(
            "a process ended before its video did, perhaps for its memory; run again to go on"
        ) from None
    except OSError as error:  # no room in /dev/shm, no more processes
        raise UserError(f"cannot start {workers} processes: {error.strerror}") from None
    return bad, done


def _begin():
    """A process of run_all: it leaves Ctrl-C to its parent, and ends when that does, however that is."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow():
        connection.wait([parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def kept_size(folders):
    """(height, width) of the frames in the first of the folders that can be read, None without any."""
    for folder in folders:
        with contextlib.suppress(VideoError):
            return probe(folder)[1:]
    return None


def check_names(paths):
    """Raise UserError where two of the videos have one name but for the suffix, and so one folder."""
    places = {}
    for path in paths:
        if (other := places.setdefault(video_id(path), path)) != path:
            raise UserError(f"{other} and {path} would have the same folder of frames: rename one")


def copy_lists(lists, place):
    """Copy the files of the folder `lists` that are not in the folder `place` yet. Raises UserError."""
    try:
        place.mkdir(exist_ok=True)
        for path in sorted(filter(Path.is_file, lists.iterdir())):
            if not (place / path.name).exists():
                shutil.copyfile(path, place / path.name)
            elif (place / path.name).read_bytes() != path.read_bytes():
                print(f"kept {place / path.name}, which is not what the source has")
    except OSError as error:
        raise UserError(f"cannot copy {lists} to {place}: {error.strerror}") from None


def preprocess(source, output, short_size, quality, workers):
    """Frames of all videos of `source` below `output`: ({bad video: reason}, number written). Raises
    UserError."""
    if not source.is_dir():
        raise UserError(f"no folder {source}")
    if writable_folder(output).resolve() == source.resolve() or video_files(output):
        raise UserError(f"--output_dir {output} has videos: frames go to a folder of their own")
    folders = sorted(entry for entry in source.iterdir() if entry.is_dir() and entry != output)
    paths = [path for folder in folders for path in video_files(folder) if not path.is_dir()]
    if not paths:
        raise UserError(f"no videos in {source}: one folder for each class is expected")
    check_names(paths)
    lists = source / "ucfTrainTestlist"
    if lists.is_dir():
        copy_lists(lists, output / lists.name)
    else:
        print(f"no official lists in {source}: training needs ucfTrainTestlist there")
    todo = [path for path in paths if not (output / video_id(path)).is_dir()]
    kept = kept_size(output / video_id(path) for path in sorted(set(paths) - set(todo)))
    if kept and min(kept) != short_size:
        raise UserError(f"{output} has frames of {min(kept)}, not {short_size} pixels: name another one")
    work = partial(preprocess_video, output=output, short_size=short_size, quality=quality)
    return run_all(work, todo, workers)


def main(argv):
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--source_data_dir", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--short_size", type=int, default=128, help="pixels of the frames' shorter edge")
    parser.add_argument("--quality", type=int, default=QUALITY, help="of the JPEG files, 1 to 100")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--workers", type=int, default=cores, help="processes, each of 0.1 GB of memory")
    args = parser.parse_args(argv)
    if not 1 <= args.short_size <= 4096 or not 1 <= args.quality <= 100 or args.workers < 1:
        raise UserError("--short_size is 1 to 4096, --quality 1 to 100, --workers at least 1")
    bad, written = preprocess(
        args.source_data_dir, args.output_dir, args.short_size, args.quality, args.workers
    )
    for path, reason in sorted(bad.items()):
        print(f"bad video {path}: {reason}")
    report = {"written": written, "bad": {str(path): reason for path, reason in sorted(bad.items())}}
    write_text(args.output_dir / "preprocess_report.json", json.dumps(report, indent=1) + "\n")
    print(f"{written} videos written to {args.output_dir}, {len(bad)} bad")
    return 1 if bad else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
