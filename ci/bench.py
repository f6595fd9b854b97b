"""Speed and memory of a classifier: cd MODEL && python ../ci/bench.py [WHAT ...] [options].

network: a forward pass and a training step (also alone: forward, step) at the peers' clip shape; with --peers
DIR and --torch PYTHON the PyTorch peer runs in turn with ours, and the median ratio is printed, with both
peaks of memory.
loader: clips a second of the training loader beside bare decord. views: 10 x 3 views of a video, and how
often it was decoded. memory: resident memory of a training run over 1,000 clips. loader and memory read the
configuration's training set, or --data in its place.
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
from types import SimpleNamespace

sys.path.insert(0, os.getcwd())

import mindspore as ms
import numpy as np
import psutil
from mindspore import nn
from mindspore.train import LambdaCallback, Model

from shared_utils import device, optim
from shared_utils.config import UserError, load
from src.build import build
from src.step import TrainStep

# Clips of the peers' bench.py: batch, frames, height, width.
SHAPES = {"r2plus1d": (2, 3, 16, 112, 112), "i3d": (1, 3, 16, 224, 224), "nonlocal": (1, 3, 32, 224, 224)}
MODEL = Path.cwd().name
# What reads videos is imported where it is measured: the memory of a training step is the network's.


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


def bench_forward(args, config):
    """Seconds of a forward pass of the peers' clips, in the words of their bench.py."""
    network, batch, _ = _network_and_batch(config)
    network.set_train(False)
    print(f"forward {seconds(lambda: network(batch).asnumpy(), args.repeats):.3f} s")


def bench_step(args, config):
    """Seconds of a training step on the peers' clips, in the words of their bench.py.

    It is compiled, or taken from --graphs, as train.py does.
    """
    network, batch, labels = _network_and_batch(config)
    settings = SimpleNamespace(type="SGD", momentum=0.9, weight_decay=0.0)
    optimizer = optim.optimizer(settings, network.trainable_params(), 0.01)
    step = TrainStep(network, optimizer).set_train()
    if args.graphs:
        given = SimpleNamespace(train_network=step, train_dataset_element=(batch, labels), cur_step_num=1)
        context = SimpleNamespace(original_args=lambda: given)
        device.KeptGraph(config, args.graphs, __name__).on_train_step_begin(context)
    print(f"training step {seconds(lambda: step(batch, labels).asnumpy(), args.repeats):.3f} s")


def _network_and_batch(config):
    shape = SHAPES[MODEL]
    batch = np.random.randn(*shape).astype(np.float32)
    return build(config), ms.Tensor(batch), ms.Tensor(np.zeros(shape[0], np.int32))


def bench_network(args, config):
    """Ours and the peer's in turn, each in a fresh process; the median of the rounds' ratios.

    Peaks of memory are those of a process that trains, when it compiles and when it starts again and has the
    graph: the peer's forward pass needs less than its step.
    """
    if not args.peers:
        bench_forward(args, config)
        bench_step(args, config)
        return
    rounds, repeats = [], ["--repeats", str(args.repeats)]
    for _ in range(args.rounds):
        *theirs, memory = _run([args.torch, "bench.py", MODEL, *repeats], args.peers)
        forward, _ = _run([sys.executable, __file__, "forward", *repeats], ".")
        with tempfile.TemporaryDirectory() as graphs:
            command = [sys.executable, __file__, "step", *repeats, "--graphs", graphs]
            (_, first), (step, again) = _run(command, "."), _run(command, ".")
        rounds.append([*theirs, memory, forward, step, first, again])
        told = "peer {:.3f} {:.3f} s {:.0f} MiB, ours {:.3f} {:.3f} s {:.0f} MiB, started again {:.0f} MiB"
        print(told.format(*rounds[-1]), flush=True)
    ratios = [(row[0] / row[3], row[1] / row[4], row[5] / row[2], row[6] / row[2]) for row in rounds]
    forward, step, first, again = (statistics.median(ratio) for ratio in zip(*ratios))
    print(
        f"median of {args.rounds} ratios, peer / ours: forward {forward:.2f}, training step {step:.2f}; "
        f"peak memory ours / peer {first:.2f}, started again {again:.2f}"
    )


def _run(command, folder):
    """The seconds that a process prints of forward pass and training step, and its peak MiB."""
    quiet = {**os.environ, "MS_SUBMODULE_LOG_v": "{PIPELINE:3}"}  # of the kept graph
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, env=quiet)
    told = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} failed")
    return [*map(float, re.findall(r"(?:forward|training step) ([\d.]+) s", told)), usage.ru_maxrss / 2**10]


def bench_loader(args, config):
    """Clips a second of bare decord, which decodes frames chosen alike, and of the training loader."""
    from shared_utils import sampling
    from shared_utils.clips import Samples
    from src import memory
    from src.dataset import TrainingClips

    import decord  # isort: skip

    section, count = config.data_loader.train.dataset, 400
    data = TrainingClips(config)
    paths, frames = [str(video.path) for video in data.videos], section.seq

    def read(number):
        reader = decord.VideoReader(paths[number % len(paths)], num_threads=1)
        rng, mode, step = np.random.default_rng(number), section.seq_mode, section.frame_interval
        chosen = sampling.sample(mode, len(reader), frames, step, rng)
        return reader.get_batch(chosen).asnumpy()

    start = time.perf_counter()
    with ThreadPoolExecutor(args.workers) as pool:
        collections.deque(pool.map(read, range(count)), maxlen=0)
    bare = count / (time.perf_counter() - start)

    # One epoch: between two the threads begin anew, which a data set of a few videos would make the most of.
    warm, steps = (-(-clips // data.clips) for clips in (20, 420))
    samples = Samples(data.sample, steps * data.clips, steps, args.workers, data.clips, seed=config.seed)
    rows = samples.dataset(["clip", "label"], memory.stack)
    for step, _ in enumerate(rows.create_tuple_iterator(num_epochs=1), 1):
        if step == warm:
            start = time.perf_counter()
    loader = (steps - warm) * data.clips / (time.perf_counter() - start)
    print(
        f"{args.workers} workers, {frames} frames: decord {bare:.1f}, loader {loader:.1f} clips/s, "
        f"loader / decord {loader / bare:.2f}"
    )


def bench_views(args, config):
    """Seconds and decodings of 10 x 3 views of one video, and the network's share of the time."""
    from shared_utils.clips import ClipReader
    from src import views

    decoded, decode, reader = [], views.decode, ClipReader(config.data_loader.eval)
    reader.workers = args.workers
    views.decode = lambda path, choose, each: decoded.append(path) or decode(path, choose, each=each)
    network = build(config).set_train(False)
    spent = [0.0]

    def answer(rows):
        start = time.perf_counter()
        logits = network(ms.Tensor(rows)).asnumpy()
        spent[0] += time.perf_counter() - start
        return logits

    for lap in ("first, with compilation", "second"):
        decoded.clear()
        spent[0], start = 0.0, time.perf_counter()
        (mean,) = views.video_answers(answer, reader, [args.video], 10, 3, config.eval.batch_size)
        if isinstance(mean, UserError):
            raise mean
        print(
            f"10 x 3 views, {lap}: {time.perf_counter() - start:.1f} s, network {spent[0]:.1f} s, "
            f"{len(decoded)} decoding of the video"
        )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB")


def bench_memory(args, config):
    """Resident memory of training on 1,000 clips, by 100 clips."""
    from src.dataset import TrainingClips

    data = TrainingClips(config)
    network, process, sizes = build(config), psutil.Process(), []
    data.steps = 100 // data.clips
    rows, _ = data.batches()
    tell = LambdaCallback(on_train_epoch_end=lambda context: sizes.append(process.memory_info().rss / 2**20))
    optimizer = nn.Momentum(network.trainable_params(), 1e-3, 0.9)
    step = TrainStep(network, optimizer)
    Model(step).train(10, rows, [tell], dataset_sink_mode=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    slope = np.polyfit(np.arange(1, 10) * 100, sizes[1:], 1)[0] * 1000
    print(f"resident MiB after each 100 clips: {' '.join(f'{size:.0f}' for size in sizes)}")
    print(f"peak {peak:.0f} MiB, slope after the first 100 clips {slope:+.0f} MiB in 1,000 clips")


BENCHES = {"network": bench_network, "forward": bench_forward, "step": bench_step, "loader": bench_loader,
           "views": bench_views, "memory": bench_memory}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", default=["network"])
    parser.add_argument("--peers", help="folder of the PyTorch peers, with their bench.py")
    parser.add_argument("--torch", default="python", help="the Python that has PyTorch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--config", default="default_config.yaml", help="of the network, the clips and the data"
    )
    parser.add_argument("--graphs", help="folder that keeps the compiled training step")
    parser.add_argument("--data", help="data set of loader and memory, instead of the configuration's")
    parser.add_argument("--video", type=Path, help="of views")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    args = parser.parse_args()
    if unknown := set(args.what) - set(BENCHES):
        parser.error(f"{min(unknown)} is none of {', '.join(BENCHES)}")
    if "views" in args.what and not args.video:
        parser.error("views needs --video")
    flags = [f"--data_loader.train.dataset.path={args.data}"] if args.data else []
    try:
        config = load(["-c", args.config, *flags], Path("default_config.yaml"))
        device.start(config)
        for name in args.what:
            print(f"-- {name}", flush=True)
            BENCHES[name](args, config)
    except (OSError, UserError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
