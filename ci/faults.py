"""Train on a data set of which a fifth is broken, with all else that goes wrong on a machine, and compare.

    python ci/faults.py MODEL [--share 0.2] [--slow 0.05] [--seed 0] [-- --section.key=value ...]

Synthetic videos are trained on twice by ci/smoke_MODEL.yaml, for a few epochs: as they are, and with a share
of them replaced by the files of ci/broken_videos.py in turn, while every reading waits `slow` seconds, each
ffmpeg is killed by SIGKILL when it first sees a video, and /dev/shm is full. (The loader has threads, no
worker processes: ffmpeg is the one process that can die beside it.) Status 1 where the second run does not
end, where a file that failed is not told once, where one that nobody can read did not fail, where a good
video failed or was read less often than without the faults, or where a fault left no trace.
"""

import argparse
import json
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import imageio_ffmpeg
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ci.broken_videos import BAD_VIDEOS, write_bad_videos
from ci.synthetic_videos import pick_classes, write_kinetics, write_ucf101

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 600  # for a run
KILLER = """#!/bin/bash
# An ffmpeg of which each command is killed the first time.
if mkdir "$0.$(printf %s "$*" | cksum | tr -d ' ')" 2>/dev/null; then kill -9 $$; fi
exec "{ffmpeg}" "$@"
"""
FULL_SHM = 'mount -t tmpfs -o size=64k x /dev/shm && { head -c 1M /dev/zero > /dev/shm/full; exec "$@"; }'
OWN_SHM = ["unshare", "--map-root-user", "--mount", "bash", "-c"]  # a /dev/shm of its own


def write_videos(model, folder):
    """A small data set of the model's kind."""
    size = {"frames": 16, "height": 24, "width": 32}
    if model == "arn":
        write_ucf101(folder, pick_classes(18), videos=8, **size)
    else:
        write_kinetics(folder, pick_classes(8), videos=15, **size)


def break_videos(videos, bad, share, seed):
    """Replace a share of `videos` by the files {kind: path} in turn: {video: kind}."""
    order = np.random.default_rng(seed).permutation(len(videos))[: round(share * len(videos))]
    broken = {videos[place]: [*bad][turn % len(bad)] for turn, place in enumerate(order)}
    for path, kind in broken.items():
        shutil.copyfile(bad[kind], path)
    return broken


def configuration(model, scratch):
    """The YAML of the smoke run, as a file in `scratch`."""
    path, toy = Path(scratch, "faults.yaml"), ROOT / model / "toy_config.yaml"
    smoke = (ROOT / f"ci/smoke_{model}.yaml").read_text()
    path.write_text(smoke.replace("base: toy_config.yaml", f"base: {toy}"))
    return path


def keys(model, data, output):
    """Flags of train.py: the data, and that it goes on for some epochs over any number of bad videos."""
    if model == "stnet":
        flags = ["--max_bad_videos=1000", "--num_epochs=3"]
        return [*flags, f"--dataset_path={data}", f"--checkpoint_path={output}"]
    flags = ["--train.epochs=3", f"--train.ckpt_path={output}"]
    for part in ("train", "eval"):
        flags += [f"--data_loader.{part}.dataset.{key}" for key in (f"path={data}", "max_bad_videos=1000")]
        flags += [f"--data_loader.{part}.dataset.class_split={data}/class_splits"] if model == "arn" else []
    return [*flags, "--data_loader.train.dataset.episodes=8"] if model == "arn" else flags


def watched(report, slow, words):
    """Run train.py of the working directory; how often each video was read, or failed, goes to `report`."""
    sys.path.insert(0, ".")
    from shared_utils import video

    read, lock = video.decode, threading.Lock()
    uses, failures = Counter(), Counter()

    def counted(path, *rest, **more):
        time.sleep(slow)
        try:
            found = read(path, *rest, **more)
        except video.VideoError:
            with lock:
                failures[str(path)] += 1
            raise
        with lock:
            uses[str(path)] += 1
        return found

    video.decode = counted  # before anything has imported it by name
    sys.argv = ["train.py", *words]
    try:
        runpy.run_path("train.py", run_name="__main__")
    finally:
        Path(report).write_text(json.dumps([uses, failures]))


def run(model, flags, scratch, slow=0.0, killer=False, around=()):
    """(what a run of train.py printed, reads by video, failures by video). ValueError where it fails."""
    report, environment = Path(scratch, "report.json"), []
    report.unlink(missing_ok=True)
    if killer:
        path = Path(scratch, "ffmpeg")
        path.write_text(KILLER.format(ffmpeg=imageio_ffmpeg.get_ffmpeg_exe()))
        path.chmod(0o700)
        environment = ["env", f"IMAGEIO_FFMPEG_EXE={path}"]
    child = [sys.executable, __file__, "--watched", report, str(slow), *flags]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    command = [*around, *environment, *map(str, child)]
    try:
        done = subprocess.run(command, check=False, cwd=ROOT / model, timeout=SECONDS, **pipes)
    except subprocess.TimeoutExpired:
        raise ValueError(f"training has not ended after {SECONDS} seconds") from None
    if done.returncode:
        raise ValueError(f"status {done.returncode}\n" + "\n".join(done.stdout.splitlines()[-8:]))
    return (done.stdout, *json.loads(report.read_text()))


def findings(told, failures, broken, before, after):
    """What is wrong, a line each. `told` is what the faulty run printed, `broken` {video: kind}; the rest are
    counts by video: failures and reads with the faults, reads before them."""
    lines = Counter(re.findall(r"bad video \d+: cannot decode (.*?): ", told))
    for path in sorted(failures.keys() | lines.keys()):
        if lines[path] != 1 or path not in failures:
            yield f"{path} failed {failures.get(path, 0)} times and was told {lines[path]} times"
    for path in sorted(before):
        kind = broken.get(path, "not broken")
        can = BAD_VIDEOS.get(kind, "good")  # be read: "good", "bad" or "either"
        if can == "good" and path in failures:
            yield f"{path} can be read and failed: {kind}"
        if can == "bad" and (path in after or path not in failures):
            yield f"{path} cannot be read and was, or never failed: {kind}"
        if can == "good" and after.get(path, 0) < before[path]:
            yield f"{path} was read {after.get(path, 0)} times, {before[path]} times without the faults"


def shm_can_be_full():
    try:
        done = subprocess.run([*OWN_SHM, FULL_SHM, "bash", "true"], check=False, capture_output=True)
    except FileNotFoundError:
        return False
    return done.returncode == 0


def compare(model, share, slow, seed, flags):
    """Both runs: (what was broken, {video: kind}, reads before and after, findings). ValueError, OSError."""
    with tempfile.TemporaryDirectory() as scratch:
        data, words = Path(scratch, "data"), ["-c", configuration(model, scratch)]
        write_videos(model, data)
        _, before, _ = run(model, [*words, *keys(model, data, f"{scratch}/whole"), *flags], scratch)
        broken = break_videos(sorted(before), write_bad_videos(Path(scratch, "bad")), share, seed)
        full = shm_can_be_full()
        around = [*OWN_SHM, FULL_SHM, "bash"] if full else []
        words += [*keys(model, data, f"{scratch}/faulty"), *flags]
        told, after, failures = run(model, words, scratch, slow, True, around)
        killed = sum(path.is_dir() for path in Path(scratch).glob("ffmpeg.*"))
        found = list(findings(told, failures, broken, before, after))
        found += [] if killed else ["no ffmpeg was killed"]
        if full and "no scalars for TensorBoard" not in told:
            found.append("/dev/shm was full, and nothing tells it")
        faults = (
            f"{len(broken)} of {len(before)} videos broken in {len(set(broken.values()))} ways, ffmpeg "
            f"killed {killed} times, /dev/shm {'full' if full else 'left alone: unshare is not allowed'}"
        )
        return faults, broken, before, after, found


def main():
    words = [*sys.argv[1:], "--"]
    own, flags = words[: words.index("--")], words[words.index("--") + 1 : -1]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--share", type=float, default=0.2, help="of the videos, to break")
    parser.add_argument("--slow", type=float, default=0.05, help="seconds that each reading waits")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(own)
    try:
        faults, broken, before, after, found = compare(args.model, args.share, args.slow, args.seed, flags)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    good = [path for path in before if path not in broken]
    print(f"{args.model}: {faults}")
    print(
        f"{len(good)} good videos were read {sum(before[path] for path in good)} times without the faults, "
        f"{sum(after.get(path, 0) for path in good)} times with them"
    )
    for line in found[:20]:
        print(line)
    sys.exit(bool(found))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--watched"]:
        watched(sys.argv[2], float(sys.argv[3]), sys.argv[4:])
    else:
        main()
