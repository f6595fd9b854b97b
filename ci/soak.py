"""Does training leak? Clips through loader and training step, and what the process holds the while.

    python ci/soak.py MODEL [--clips 5000] [-- -c toy_config.yaml --section.key=value ...]

The arguments after -- are train.py's; without them the toy configuration is trained for as long as it takes.
Prints the resident memory and the open files by the clips seen, and the slope over the second half. Status 1
where memory grows by more than 2 MiB a thousand clips, or open files are left over.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from shared_utils.config import UserError, load

ROOT = Path(__file__).resolve().parents[1]
GROWTH = 2.0  # MiB a thousand clips; what the allocator wanders by itself stays below
SAMPLES = 20  # rows printed


def clips_of_a_step(model, config):
    if model == "stnet":
        return config.batch_size
    data = config.data_loader.train.dataset
    if model == "arn":
        return config.model.way * (config.model.shot + data.query)
    return data.batch_size * config.train.accumulate


def keys(model, folder):
    """Flags of train.py: nothing but steps, for ever."""
    if model == "stnet":
        numbers = {"num_epochs": 10000, "run_eval": False, "save_checkpoint": False, "log_steps": 1}
        return [f"--checkpoint_path={folder}", *(f"--{key}={value}" for key, value in numbers.items())]
    numbers = {"epochs": 10000, "eval_epochs": 0, "save_checkpoint_epochs": 0, "log_steps": 1}
    return [f"--train.ckpt_path={folder}", *(f"--train.{key}={value}" for key, value in numbers.items())]


def held(process):
    """(resident MiB, open files) of a process."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024, len(os.listdir(f"/proc/{process}/fd"))


def soak(model, clips, flags):
    """[(clips, resident MiB, open files)] of training until it has seen `clips`. UserError, ValueError."""
    with tempfile.TemporaryDirectory() as scratch:
        flags = [*flags, *keys(model, scratch)]
        os.chdir(ROOT / model)
        step = clips_of_a_step(model, load(flags, "default_config.yaml"))
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        process = subprocess.Popen([sys.executable, "train.py", *flags], **pipes)
        rows, lines, seen, least = [], [], 0, sys.maxsize
        try:
            for line in process.stdout:
                lines = [*lines[-4:], line]
                if line.startswith("epoch: ") and " step: " in line:
                    seen += step
                    memory, files = held(process.pid)
                    least = min(least, files)  # videos that are being read are open
                    if seen * SAMPLES >= clips * (len(rows) + 1):
                        rows.append((seen, memory, least))
                        least = sys.maxsize
                        print("{:7d} clips {:8.1f} MiB {:4d} open files".format(*rows[-1]), flush=True)
                if seen >= clips:
                    return rows
        finally:
            process.kill()
            process.wait()
    raise ValueError("train.py failed:\n" + "".join(lines).rstrip())


def slope(rows):
    """(MiB a thousand clips, files left over) over the second half of the rows."""
    clips, memory, files = np.array(rows[len(rows) // 2 :]).T
    third, last = np.array_split(files, 2)
    return 1000 * np.polyfit(clips, memory, 1)[0], int(last.min() - third.min())


def main():
    words = [*sys.argv[1:], "--"]
    own, flags = words[: words.index("--")], words[words.index("--") + 1 : -1]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--clips", type=int, default=5000)
    args = parser.parse_args(own)
    try:
        growth, files = slope(soak(args.model, args.clips, flags or ["-c", "toy_config.yaml"]))
    except (OSError, UserError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"{args.model}: {growth:+.2f} MiB a thousand clips, {files} files left over")
    sys.exit(bool(growth > GROWTH or files > 0))


if __name__ == "__main__":
    main()
