"""Speed and memory of ARN on this machine: python bench.py [network|episodes|loader|memory ...] [options].

network: a forward pass and a training step on 5 + 5 clips of 3x16x128x128; with --peers DIR and --torch
PYTHON the PyTorch peer runs in turn with ours, and the ratio is printed. episodes: what scoring an episode
costs once the videos are encoded. loader: clips a second of the training loader beside bare decord, and from
JPEG frames. memory: resident memory of a training run over 1,000 clips. loader and memory need --data, a
few-shot data set on disk.
"""

import argparse
import collections
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mindspore as ms
import numpy as np
import psutil
from mindspore import nn
from mindspore.train import LambdaCallback, Model

from shared_utils import device
from shared_utils.config import UserError, load
from src.dataset import Episodes, Videos, episode_dataset
from src.dataset_preprocess import preprocess
from src.episodes import draw_episode
from src.evaluation import EncodedVideos, relations
from src.loss import ARNLoss
from src.network import ARN

import decord  # isort: skip

SHAPE = (5, 3, 16, 128, 128)
DEFAULTS = load([], Path(__file__).resolve().with_name("default_config.yaml"))


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


def time_network(repeats):
    """(seconds of a forward pass, seconds of a training step) of the network that the peer has."""
    network = ARN(temporal_attention=False, alpha_s=1.0)
    support, query = (ms.Tensor(np.random.randn(*SHAPE).astype(np.float32)) for _ in range(2))
    network.set_train(False)
    forward = seconds(lambda: network(support, query).asnumpy(), repeats)
    optimizer = nn.Momentum(network.trainable_params(), 0.01, 0.9)
    step = nn.TrainOneStepCell(ARNLoss(network), optimizer).set_train()
    clips = ms.Tensor(np.concatenate([support.asnumpy(), query.asnumpy()]))
    return forward, seconds(lambda: step(clips).asnumpy(), repeats)


def bench_network(args):
    """Ours and the peer's in turn, each in a fresh process; the median of the rounds' ratios."""
    rounds = []
    for _ in range(args.rounds if args.peers else 0):
        theirs = _times([args.torch, "bench.py", "arn", "--repeats", str(args.repeats)], args.peers)
        ours = _times([sys.executable, __file__, "network", "--repeats", str(args.repeats)], ".")
        rounds.append([*theirs, *ours])
        print("peer {:.3f} {:.3f} s, ours {:.3f} {:.3f} s".format(*rounds[-1]), flush=True)
    if rounds:
        ratios = [(row[0] / row[2], row[1] / row[3]) for row in rounds]
        forward, step = (statistics.median(ratio) for ratio in zip(*ratios))
        print(f"median of {args.rounds} ratios, peer / ours: forward {forward:.2f}, training step {step:.2f}")
    else:
        print("forward {:.3f} s   training step {:.3f} s".format(*time_network(args.repeats)))


def _times(command, folder):
    out = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    return [
        float(number) for number in re.search(r"forward ([\d.]+) s\s+training step ([\d.]+) s", out).groups()
    ]


def bench_episodes(args):
    """Milliseconds an episode of 5-way, one query a class, over descriptors of random clips."""
    network = ARN().set_train(False)
    encoded = object.__new__(EncodedVideos)
    encoded.relations, encoded.names = relations(network.relation), [str(label) for label in range(8)]
    encoded.descriptors = np.random.rand(160, 64, 64).astype(np.float32)
    encoded.good = np.ones(160, bool)
    encoded.rows = np.split(np.arange(160), 8)
    encoded.groups = [np.arange(20)] * 8
    start = time.perf_counter()
    for number in range(args.episodes):
        draw_episode(encoded.groups, 5, 1, 1, 0, number)
    print(f"drawing: {(time.perf_counter() - start) / args.episodes * 1000:.3f} ms an episode")
    for shot in (1, 5):
        encoded.episodes(5, shot, 1, 1, 0)
        start = time.perf_counter()
        encoded.episodes(5, shot, 1, args.episodes, 0)
        cost = (time.perf_counter() - start) / args.episodes * 1000
        print(f"5-way {shot}-shot, 160 videos: {cost:.2f} ms an episode over {args.episodes} episodes")


def bench_loader(args):
    """Clips a second of bare decord, of the training loader, and of the loader on JPEG frames."""
    with tempfile.TemporaryDirectory() as folder:
        preprocess(args.data, folder, (128, 128), 95, args.workers)
        bare = _decord_rate(_videos(args.data, args), args.workers)
        loader = _loader_rate(_videos(args.data, args), args.workers)
        frames = _loader_rate(_videos(folder, args), args.workers)
    print(f"{args.workers} workers, clips/s: decord {bare:.1f}, loader {loader:.1f}, frames {frames:.1f}")
    print(f"loader / bare decord {loader / bare:.2f}, JPEG frames / videos {frames / loader:.1f}")


def _videos(data, args, size=128):
    resize = {"type": "VideoResize", "size": [size, size]}
    options = {
        "dataset.path": data,
        "dataset.class_split": args.class_split,
        "dataset.distinct_groups": False,
        "map.operations": [resize, *DEFAULTS.data_loader.train.map.operations[1:]],
    }
    section = DEFAULTS.data_loader.train.copy_and_resolve_references()
    section.update_from_flattened_dict(options)
    return Videos(section, "train")


def _decord_rate(videos, workers, clips=400):
    paths = [str(path) for of_class in videos.paths for path in of_class]

    def read(number):
        reader = decord.VideoReader(paths[number % len(paths)], num_threads=1)
        return reader.get_batch(np.linspace(0, len(reader) - 1, SHAPE[2]).round().astype(int)).asnumpy()

    start = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        collections.deque(pool.map(read, range(clips)), maxlen=0)
    return clips / (time.perf_counter() - start)


def _loader_rate(videos, workers, steps=40, first=4):
    rows, _ = episode_dataset(Episodes(videos, 5, 1, 1, DEFAULTS.seed), workers, first + steps)
    for number, _ in enumerate(rows.create_tuple_iterator(num_epochs=1, output_numpy=True)):
        if number == first - 1:
            start = time.perf_counter()
    return steps * 2 * SHAPE[0] / (time.perf_counter() - start)


def bench_memory(args):
    """Resident memory of training on 1,000 clips of 3x16x32x32, by 100 clips."""
    videos, loss = _videos(args.data, args, 32), ARNLoss(ARN())
    rows, _ = episode_dataset(Episodes(videos, 5, 1, 1, DEFAULTS.seed), args.workers, 10)
    process, sizes = psutil.Process(), []
    tell = LambdaCallback(
        on_train_epoch_end=lambda run_context: sizes.append(process.memory_info().rss / 2**20)
    )
    Model(loss, optimizer=nn.Adam(loss.trainable_params(), 1e-3)).train(
        10, rows, [tell], dataset_sink_mode=False
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    slope = np.polyfit(np.arange(1, 10) * 100, sizes[1:], 1)[0] * 1000
    print(f"resident MiB after each 100 clips: {' '.join(f'{size:.0f}' for size in sizes)}")
    print(f"peak {peak:.0f} MiB, slope after the first 100 clips {slope:+.0f} MiB in 1,000 clips")


def main():
    benches = {
        "network": bench_network,
        "episodes": bench_episodes,
        "loader": bench_loader,
        "memory": bench_memory,
    }
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", default=["network", "episodes"])
    parser.add_argument("--peers", help="folder of the PyTorch peers, with their bench.py")
    parser.add_argument("--torch", default="python", help="the Python that has PyTorch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--episodes", type=int, default=10000)
    parser.add_argument("--data", help="data set of the loader and memory benches")
    parser.add_argument("--class_split", default="", help="as in data_loader.train.dataset; else all classes")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    args = parser.parse_args()
    if unknown := set(args.what) - set(benches):
        parser.error(f"{min(unknown)} is none of {', '.join(benches)}")
    if {"loader", "memory"} & set(args.what) and not args.data:
        parser.error("loader and memory need --data")
    try:
        device.start(DEFAULTS)
        for name in args.what:
            print(f"-- {name}", flush=True)
            benches[name](args)
    except (OSError, subprocess.CalledProcessError, UserError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
