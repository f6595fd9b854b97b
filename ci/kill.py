"""Kill a model's training with SIGKILL at random moments, resume it, and compare with a run never stopped.

    python ci/kill.py MODEL [--kills 10] [--seed 0] [-- -c toy_config.yaml --section.key=value ...]

The arguments after -- are train.py's; without them the toy run is what is killed. Both runs keep their files
in a temporary folder. Status 1 where a tensor differs in a bit, or a learning rate, a loss or a step.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from shared_utils import checkpoint

ROOT = Path(__file__).resolve().parents[1]
TOLD = ("loss", "lr", "validation")  # what metrics.jsonl must have alike
ROUNDING = 1e-6  # of the loss that is told; what is learnt must not differ in a bit


def keys(model, folder):
    """Flags of train.py: where the run's files go, how it resumes, and that it saves and tells often."""
    if model == "stnet":
        return [f"--checkpoint_path={folder}", "--resume=auto", "--save_checkpoint_epochs=1", "--log_steps=1"]
    flags = [f"--train.ckpt_path={folder}", "--train.resume=auto", "--train.log_steps=1"]
    return [*flags, "--train.save_checkpoint_epochs=1", "--train.save_checkpoint_steps=3"]


def train(model, folder, flags, kills=0, seed=0):
    """Train to the end, killed `kills` times on the way; the seconds of each start until its first step.

    A run is killed only when it has gone beyond what was saved before, then in each step with the chance of
    one in eight. ValueError where training fails.
    """
    rng, waits = np.random.default_rng(seed), []
    while True:
        command = [sys.executable, "train.py", *flags, *keys(model, folder)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        process, begin = subprocess.Popen(command, cwd=ROOT / model, **pipes), time.perf_counter()
        saved, lines, first = newest(folder), [], None
        for line in process.stdout:
            lines.append(line)
            if line.startswith("epoch: ") and " step: " in line:
                first = first or time.perf_counter() - begin
                if kills > 0 and newest(folder) != saved and rng.random() < 1 / 8:
                    time.sleep(rng.uniform(0, 0.5))
                    process.kill()
                    break
        status = process.wait()
        waits += [first] if first else []
        if status == 0:
            return waits
        if status != -9:
            raise ValueError("train.py failed:\n" + "".join(lines[-5:]).rstrip())
        kills -= 1


def newest(folder):
    return max((path.stat().st_mtime_ns for path in Path(folder).glob("*.ckpt")), default=0)


def rows(folder):
    """[(step, name, number)] of metrics.jsonl, in its order."""
    (path,) = Path(folder).glob("*-log/metrics.jsonl")
    told = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row["step"], name, row[name]) for row in told for name in TOLD if name in row]


def differences(whole, killed):
    """What two runs' folders do not have alike, a line each."""
    if [row[:2] for row in rows(whole)] != [row[:2] for row in rows(killed)]:
        yield f"metrics.jsonl: {len(rows(whole))} and {len(rows(killed))} numbers, or of other steps"
    for (step, name, number), (_, _, other) in zip(rows(whole), rows(killed)):
        if abs(number - other) > (ROUNDING * abs(number) if name == "loss" else 0):
            yield f"metrics.jsonl: {name} of step {step} is {number} and {other}"
    for name in ("best", "state"):
        one, other = (pick(folder, name) for folder in (whole, killed))
        if (one is None) != (other is None) or (one and one.name != other.name):
            yield f"{name}: {one} and {other}"
        elif one:
            first, second = checkpoint.load(one)[0], checkpoint.load(other)[0]
            for tensor in first.keys() | second.keys():
                both = tensor in first and tensor in second
                if not both or first[tensor].asnumpy().tobytes() != second[tensor].asnumpy().tobytes():
                    yield f"{one.name}: {tensor}"


def pick(folder, name):
    """The newest state of a run's folder, or its best weights; None where there are none."""
    paths = [path for path in Path(folder).glob("*.ckpt") if path.stem.endswith("-best") == (name == "best")]
    return max(paths, key=lambda path: path.stat().st_mtime_ns, default=None)


def main():
    words = [*sys.argv[1:], "--"]
    own, flags = words[: words.index("--")], words[words.index("--") + 1 : -1]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(own)
    flags = flags or ["-c", "toy_config.yaml"]
    with tempfile.TemporaryDirectory() as scratch:
        whole, killed = Path(scratch, "whole"), Path(scratch, "killed")
        try:
            train(args.model, whole, flags)
            waits = train(args.model, killed, flags, args.kills, args.seed)
        except (OSError, ValueError) as error:
            sys.exit(f"error: {error}")
        found = list(differences(whole, killed))
        print(f"{args.model}: killed {len(waits) - 1} times, {len(rows(whole))} numbers, {len(found)} differ")
        print(f"from the start to the first step, s: {' '.join(f'{wait:.1f}' for wait in waits)}")
        for line in found[:20]:
            print(line)
        sys.exit(bool(found) or len(waits) <= args.kills)


if __name__ == "__main__":
    main()
