"""Check UCF101 and decode every video once into small JPEG frames, which training reads many times as fast.

    python src/dataset_preprocess.py --source_data_dir UCF101 --output_dir UCF101_frames --size 128 128

`<Class>/<video>.avi` becomes the folder `<Class>/<video>` of 000000.jpg, 000001.jpg, ... Frames are squashed
to the size that training wants, so that training sees the same pixels up to JPEG. Sources stay as they are.
Run again with the same size, it goes on where it stopped. Exit status 1 when a video could not be decoded.
"""

import argparse
import contextlib
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the model's folder, for a script inside src

import cv2
from tqdm import tqdm

from shared_utils.config import UserError
from shared_utils.datasets import ucf101, video_files, video_id
from shared_utils.metrics import writable_folder
from shared_utils.transforms import resize
from shared_utils.video import VideoError, decode, probe
from src.dataset import class_folders

CHUNK = 512  # frames in memory at a time


def write_frames(video, folder, size, quality):
    """Decode `video` into JPEG frames of `size` (height, width); `folder` appears when it is complete.

    Returns the number of frames. Raises VideoError, and UserError where nothing can be written.
    """
    count, *_ = probe(video)
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        for start in range(0, count, CHUNK):
            clip = resize(decode(video, range(start, min(start + CHUNK, count))), None, size)
            for number, frame in enumerate(clip, start):
                bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
                _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
                (partial / f"{number:06d}.jpg").write_bytes(data)  # imwrite dies of names that are no UTF-8
        for name in {*os.listdir(partial)} - {f"{number:06d}.jpg" for number in range(count)}:
            os.remove(partial / name)  # of a run cut short, when the video was another
        os.replace(partial, folder)
    except VideoError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}") from None
    return count


def kept_size(folders):
    """(height, width) of the frames in the first of the folders that can be read, None without any."""
    for folder in folders:
        with contextlib.suppress(VideoError):
            return probe(folder)[1:]
    return None


def preprocess(source, output, size, quality, workers):
    """Frames of all videos of `source` below `output`: ({bad video: reason}, number written)."""
    folders, output = class_folders(source), writable_folder(output)
    if output.resolve() == Path(source).resolve() or video_files(output):
        raise UserError(f"--output_dir {output} has videos: frames go to a folder of their own")
    todo = {path: output / video_id(path) for paths in folders.values() for path in paths}
    places = {}
    for path, folder in todo.items():
        if not path.is_dir() and (other := places.setdefault(folder, path)) != path:
            raise UserError(f"{other} and {path} would have the same folder of frames: rename one")
    kept = kept_size(folder for folder in todo.values() if folder.is_dir())
    if kept and list(kept) != list(size):
        raise UserError(f"{output} has frames of {list(kept)}, not {list(size)}: name another --output_dir")
    todo = {path: folder for path, folder in todo.items() if not path.is_dir() and not folder.is_dir()}
    bad, written = {}, 0
    with ThreadPoolExecutor(workers) as pool:
        jobs = {pool.submit(write_frames, path, folder, size, quality): path for path, folder in todo.items()}
        try:
            for job in tqdm(as_completed(jobs), "videos", len(jobs), disable=not sys.stderr.isatty()):
                try:
                    job.result()
                    written += 1
                except VideoError as error:
                    bad[jobs[job]] = error.reason
        except (UserError, KeyboardInterrupt):
            pool.shutdown(cancel_futures=True)
            raise
    return bad, written


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


def check_lists(source, output):
    """Report what UCF101's official lists name and the disk lacks, and copy the lists to the output."""
    lists = Path(source) / "ucfTrainTestlist"
    if not lists.is_dir():
        print(f"no official lists in {source}: their videos were not checked")
        return
    copy_lists(lists, Path(output) / lists.name)
    for split in ("train", "test"):
        if (lists / f"{split}list01.txt").is_file():
            videos, missing, _ = ucf101(source, split)
            print(f"official {split} list 1: {len(videos)} videos on disk, {len(missing)} missing")


def main(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source_data_dir", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--size", type=int, nargs=2, default=(128, 128), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--quality", type=int, default=95, help="of the JPEG files, 1 to 100")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    args = parser.parse_args(argv)
    if not 1 <= min(args.size) <= max(args.size) <= 4096 or not 1 <= args.quality <= 100 or args.workers < 1:
        raise UserError("--size is 1 to 4096, --quality 1 to 100, --workers at least 1")
    bad, written = preprocess(args.source_data_dir, args.output_dir, args.size, args.quality, args.workers)
    check_lists(args.source_data_dir, args.output_dir)
    for path, reason in sorted(bad.items()):
        print(f"bad video {path}: {reason}")
    print(f"{written} videos written to {args.output_dir}, {len(bad)} bad")
    return 1 if bad else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
