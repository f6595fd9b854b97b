"""Speed of StNet on this machine: python bench.py [network|loader|preprocess ...] [options].

network: a forward pass and a training step on 2 x 7 super-images of 15x112x112; with --peers DIR and --torch
PYTHON the PyTorch peer runs in turn with ours, and the median ratio is printed. loader: clips a second from
the videos of a data set in UCF101's layout (--data) and from its JPEG frames. preprocess: videos a second of
preprocess_ucf101.py beside ffmpeg's own, for the same frames, size and processes.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imageio_ffmpeg
import mindspore as ms
import numpy as np
from mindspore import nn

from shared_utils import device
from shared_utils.clips import prefetch
from shared_utils.config import UserError, load
from shared_utils.datasets import video_files, video_id
from src import settings
from src.dataset import ClipReader
from src.loss import CrossEntropySmooth
from src.network import StNet
from src.preprocess_ucf101 import QUALITY, write_frames

SHAPE = (2, 7, 15, 112, 112)
DEFAULTS = Path(__file__).resolve().with_name("default_config.yaml")
PREPROCESS = Path(__file__).resolve().with_name("src") / "preprocess_ucf101.py"


def seconds(step, repeats):
    """Median seconds of `step` after six calls: the first one compiles, and in the first five those of
    MindSpore's kernels that search for their number of threads have one."""
    for _ in range(6):
        step()
    laps = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        laps.append(time.perf_counter() - start)
    return statistics.median(laps)


def bench_network(args):
    """Ours and the peer's in turn, each in a fresh process; the median of the rounds' ratios."""
    rounds, repeats = [], ["--repeats", str(args.repeats)]
    for _ in range(args.rounds if args.peers else 0):
        theirs = _times([args.torch, "bench.py", "stnet", *repeats], args.peers)
        ours = _times([sys.executable, __file__, "network", *repeats], ".")
        rounds.append([*theirs, *ours])
        print("peer {:.3f} {:.3f} s, ours {:.3f} {:.3f} s".format(*rounds[-1]), flush=True)
    if rounds:
        ratios = [(row[0] / row[2], row[1] / row[3]) for row in rounds]
        forward, step = (statistics.median(ratio) for ratio in zip(*ratios))
        print(f"median of {args.rounds} ratios, peer / ours: forward {forward:.2f}, training step {step:.2f}")
        return
    network, labels = StNet(), ms.Tensor(np.zeros(SHAPE[0], np.int32))
    clips = ms.Tensor(np.random.randn(*SHAPE).astype(np.float32))
    network.set_train(False)
    forward = seconds(lambda: network(clips).asnumpy(), args.repeats)
    loss = nn.WithLossCell(network, CrossEntropySmooth(101))
    step = nn.TrainOneStepCell(loss, nn.Momentum(network.trainable_params(), 0.01, 0.9)).set_train()
    lap = seconds(lambda: step(clips, labels).asnumpy(), args.repeats)
    print(f"forward {forward:.3f} s   training step {lap:.3f} s")


def _times(command, folder):
    told = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    return [float(number) for number in re.findall(r"(?:forward|training step) ([\d.]+) s", told)]


def videos(data):
    """The video files of a data set with a folder for each class."""
    folders = sorted(entry for entry in data.iterdir() if entry.is_dir())
    return [path for folder in folders for path in video_files(folder) if path.is_file()]


def bench_loader(args):
    """Clips a second, as training takes them, from the videos and from their frames."""
    paths, config = videos(args.data), load([], DEFAULTS)
    reader = ClipReader(config, training=True)
    with tempfile.TemporaryDirectory() as frames:
        folders = [Path(frames) / video_id(path) for path in paths]
        for path, folder in zip(paths, folders):
            write_frames(path, folder, config.short_size, QUALITY)
        rates = []
        for _ in range(args.rounds):
            rates.append([_clips(reader, places, args.workers) for places in (paths, folders)])
            print(
                "{} workers: videos {:.1f}, frames {:.1f} clips/s".format(args.workers, *rates[-1]),
                flush=True,
            )
    ratio = statistics.median(frames / videos for videos, frames in rates)
    print(f"median of {args.rounds} ratios, frames / videos: {ratio:.1f}")


def _clips(reader, places, workers):
    """Clips a second, of at least 400."""
    jobs = places * -(-400 // len(places))
    start = time.perf_counter()
    for _ in prefetch(lambda place: reader.clip(place, np.random.default_rng()), jobs, workers, 2 * workers):
        pass
    return len(jobs) / (time.perf_counter() - start)


def bench_preprocess(args):
    """Videos a second into JPEG frames, ours beside ffmpeg's."""
    paths, rates = videos(args.data), []
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as output:
            command = [sys.executable, PREPROCESS, "--source_data_dir", args.data, "--output_dir", output]
            start = time.perf_counter()
            subprocess.run([*command, "--workers", str(args.workers)], check=True, stdout=subprocess.DEVNULL)
            ours = time.perf_counter() - start
        with tempfile.TemporaryDirectory() as output, ThreadPoolExecutor(args.workers) as pool:
            start = time.perf_counter()
            list(pool.map(lambda path: ffmpeg(path, Path(output) / video_id(path)), paths))
            rates.append((time.perf_counter() - start) / ours)
        print(
            f"{len(paths)} videos: ours {len(paths) / ours:.2f} a second, {rates[-1]:.2f} of ffmpeg's",
            flush=True,
        )
    print(f"median of {args.rounds} ratios, ours / ffmpeg: {statistics.median(rates):.2f}")


def ffmpeg(path, folder):
    """JPEG frames of `path` by the ffmpeg of imageio-ffmpeg, with one thread, bilinear as ours."""
    folder.mkdir(parents=True)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-threads", "1", "-i", path]
    scale = "scale='if(gt(iw,ih),-2,128)':'if(gt(iw,ih),128,-2)':flags=bilinear"
    command += ["-vf", scale, "-threads", "1", "-q:v", "2", folder / "%06d.jpg"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


BENCHES = {"network": bench_network, "loader": bench_loader, "preprocess": bench_preprocess}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", default=["network"])
    parser.add_argument("--peers", help="folder of the PyTorch peers, with their bench.py")
    parser.add_argument("--torch", default="python", help="the Python that has PyTorch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--data", type=Path, help="data set in UCF101's layout, of loader and preprocess")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    args = parser.parse_args()
    if unknown := set(args.what) - set(BENCHES):
        parser.error(f"{min(unknown)} is none of {', '.join(BENCHES)}")
    if set(args.what) - {"network"} and not args.data:
        parser.error("loader and preprocess need --data")
    try:
        device.start(settings.job(load([], DEFAULTS)))
        for name in args.what:
            print(f"-- {name}", flush=True)
            BENCHES[name](args)
    except (OSError, subprocess.CalledProcessError, UserError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
