"""What the tests of the models on several ranks share: copies of a model that run its scripts, real ranks."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import yaml

from ci.pack import pack  # pytest's pythonpath is the repository's root
from shared_utils import checkpoint

ROOT = Path(__file__).resolve().parents[2]
# In place of train.py: the same, and each rank keeps the weights that it ends with.
KEEPING = """
import original
from shared_utils import checkpoint, device, training
from shared_utils.config import run

def keep(job, context):
    checkpoint.save(f"rank{device.ranks()[0]}.ckpt", job.network.parameters_dict())

training.Run.on_train_end = keep
run(original.main, __file__)
"""


def copy_of(model, folder, config):
    """A packed copy of the model in `folder`, with the dict `config` as tiny.yaml."""
    path = pack(ROOT, model, folder)
    (path / "train.py").rename(path / "original.py")
    (path / "train.py").write_text(KEEPING)
    (path / "tiny.yaml").write_text(yaml.safe_dump({**config, "base": "default_config.yaml"}))
    return path


def environment(port, **more):
    return {**os.environ, "PYTHON": sys.executable, "MASTER_PORT": str(port), **more}


def start(copy, script, *arguments, port, **more):
    """The script's process, which leads a group of its own."""
    command = ["bash", copy / "scripts" / script, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    return subprocess.Popen(
        command, cwd=copy, env=environment(port, **more), start_new_session=True, **pipes
    )


def call(copy, script, *arguments, port, **more):
    """(exit status, all that it printed)."""
    process = start(copy, script, *arguments, port=port, **more)
    try:
        told, _ = process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, told


def losses(told):
    return [float(loss) for loss in re.findall(r"^epoch: \d+ step: \d+, loss is (\S+)", told, re.MULTILINE)]


def weights(path):
    return {name: tensor.asnumpy() for name, tensor in checkpoint.load(path)[0].items()}


def equal_weights(copy, ranks):
    """All ranks ended with the same bits; what they are."""
    first, *others = [weights(copy / f"rank{rank}.ckpt") for rank in range(ranks)]
    for other in others:
        for name, tensor in first.items():
            np.testing.assert_array_equal(tensor, other[name], err_msg=name)
    return first


def results(copy, name="eval/results.json"):
    return json.loads((copy / name).read_text())


def learn_as_one(model, tiny, folder, port, norms="freeze_norm"):
    """Two ranks with half the batch learn what one learns; the copy in which two did.

    `tiny`: the path of the tiny YAML; norms are frozen, else a rank's statistics are its own. With
    norms="sync_norm" the statistics are all that is learnt: 4 clips magnify what is rounded otherwise.
    """
    tree = yaml.safe_load(tiny.read_text())
    tree["train"].update({norms: True, "ckpt_path": "output"})
    if norms == "sync_norm":
        tree.setdefault("learning_rate", {})["lr"] = 0.0
    tree["eval"]["output_dir"] = "eval"
    one = copy_of(model, folder / "one", tree)
    status, alone = call(one, "run_standalone_train.sh", "tiny.yaml", port=port)
    assert status == 0, alone
    tree["data_loader"]["train"]["dataset"]["batch_size"] //= 2
    two = copy_of(model, folder / "two", tree)
    status, shared = call(two, "run_distribute_train.sh", 2, "0,1", "tiny.yaml", port=port)
    assert status == 0, shared
    np.testing.assert_allclose(losses(shared), losses(alone), rtol=0, atol=1e-4)
    assert len(losses(alone)) == 6 and len(set(losses(alone))) > 4
    together = equal_weights(two, 2)
    for name, tensor in weights(one / "rank0.ckpt").items():
        np.testing.assert_allclose(tensor, together[name], atol=1e-3, err_msg=name)
    assert (two / "train/train.log").exists()
    assert [path.name for path in (two / "train/ckpt").glob("*-2_3.ckpt")] == [f"{model}-2_3.ckpt"]
    return two


def wait_for(path, text, process):
    """Wait until the log `path` of the script's process has `text`."""
    deadline = time.monotonic() + 120
    while not (path.exists() and text in path.read_text(errors="replace")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)


def processes(copy, *variables):
    """Ids of the processes that work in `copy` with these environment variables, NAME=VALUE."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "environ").read_text(errors="replace").split("\0")
            if os.readlink(entry / "cwd") == str(copy) and {*variables} <= {*words}:
                found.append(int(entry.name))
        except (OSError, ProcessLookupError):
            continue
    return found


def kill_rank(copy, rank):
    """SIGKILL a rank of the script that runs in `copy`, as soon as there is one."""
    deadline = time.monotonic() + 60
    while not (found := processes(copy, f"RANK_ID={rank}", "MS_ROLE=MS_WORKER")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    kill(found)


def kill(numbers):
    """SIGKILL the processes of these ids, as far as they are still there."""
    for number in numbers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def end(process):
    """(seconds until the script's process ended, all that it printed)."""
    begin = time.monotonic()
    told, _ = process.communicate(timeout=120)
    return time.monotonic() - begin, told


def not_this_host(folder):
    """A folder to put before PATH, whose `ip` tells of another host: msrun starts no second scheduler."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "ip").write_text("""#!/bin/sh\necho '[{"addr_info": [{"local": "192.0.2.1"}]}]'\n""")
    (folder / "ip").chmod(0o755)
    return folder
