"""Two ranks on two cores beside one process: clips a second of a model's training, by its own scripts.

    python ci/ranks.py MODEL [--rounds 3] [--epochs 2] [-- -c toy_config.yaml --section.key=value ...]

The arguments after -- are train.py's; without them the toy configuration is trained. One process takes the
configured clips a step, each rank half of them (of ARN an episode each), in a packed copy of the model. What
is told is the last epoch's, so that compiling does not count.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ci.pack import pack
from shared_utils.config import UserError, load

ROOT = Path(__file__).resolve().parents[1]


def absolute(tree, folder):
    """The tree with each path that leads to something from `folder` made absolute."""
    if isinstance(tree, dict):
        return {name: absolute(value, folder) for name, value in tree.items()}
    leads = isinstance(tree, str) and "/" in tree and (folder / tree).exists()
    return str((folder / tree).resolve()) if leads else tree


def settings(model, flags, epochs, ranks):
    """Tree of the configuration that `ranks` ranks train by: steps alone, as many clips a step in all.

    UserError where the configuration is wrong; ValueError where a batch cannot be halved.
    """
    os.chdir(ROOT / model)
    tree = absolute(load(flags, "default_config.yaml").to_dict(), ROOT / model)
    if model == "stnet":
        steps, name = tree, "num_epochs"
        batch, quiet = tree, {"run_eval": False, "checkpoint_path": "train/ckpt"}
    else:
        steps, name = tree["train"], "epochs"
        batch, quiet = tree["data_loader"]["train"]["dataset"], {"eval_epochs": 0, "ckpt_path": "train/ckpt"}
    steps.update({name: epochs, "log_steps": 0, **quiet})
    if model != "arn":
        if batch["batch_size"] % ranks:
            raise ValueError(f"a batch of {batch['batch_size']} clips is not for {ranks} ranks")
        batch["batch_size"] //= ranks
    return tree


def clips_per_second(model, tree, ranks):
    """Of the last epoch of training by the configuration `tree`. ValueError where training fails."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pack(ROOT, model, Path(folder))
        (copy / "ranks.yaml").write_text(json.dumps(tree))
        kind = "standalone" if ranks == 1 else "distribute"
        script = f"{copy}/scripts/run_{kind}_train{'_gpu' if model == 'stnet' else ''}.sh"
        devices = [] if ranks == 1 else [str(ranks), ",".join(map(str, range(ranks)))]
        command = ["bash", script, *devices, f"{copy}/ranks.yaml"]
        environment = {**os.environ, "PYTHON": sys.executable}
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        if done.returncode:
            told = "\n".join((done.stdout + done.stderr).splitlines()[-5:])
            raise ValueError(f"{' '.join(command)} failed:\n{told}")
        rows = map(json.loads, (copy / f"train/ckpt/{model}-log/metrics.jsonl").read_text().splitlines())
        return [row["clips_per_second"] for row in rows if "loss" in row][-1]


def main():
    words = [*sys.argv[1:], "--"]
    own, flags = words[: words.index("--")], words[words.index("--") + 1 : -1]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args(own)
    ratios, flags = [], flags or ["-c", "toy_config.yaml"]
    try:
        trees = {ranks: settings(args.model, flags, args.epochs, ranks) for ranks in (1, 2)}
        for _ in range(args.rounds):
            one, two = (clips_per_second(args.model, tree, ranks) for ranks, tree in trees.items())
            ratios.append(two / one)
            print(f"one process {one:.1f} clips/s, two ranks {two:.1f}: {two / one:.2f}", flush=True)
        median = statistics.median(ratios)
    except (OSError, UserError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"{args.model}: two ranks / one process: median {median:.2f} of {args.rounds}")


if __name__ == "__main__":
    main()
