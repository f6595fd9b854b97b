"""device: what it says when it is not there."""

import subprocess
import sys
from types import SimpleNamespace

import mindspore as ms
import pytest

from shared_utils import device
from shared_utils.config import UserError


def configuration(device_target="CPU", mode=ms.GRAPH_MODE, seed=3, run_distribute=False):
    context = SimpleNamespace(mode=mode, device_target=device_target, device_id=0, save_graphs=False)
    return SimpleNamespace(context=context, seed=seed, train=SimpleNamespace(run_distribute=run_distribute))


def test_a_device_that_is_not_there_is_one_line(monkeypatch):
    refuse = ms.set_device

    def missing(target, number):
        if target == "TPU":
            refuse(target, number)
        raise RuntimeError(f"Unsupported device target {target}.\n\n- stack")

    monkeypatch.setattr(ms, "set_device", missing)
    monkeypatch.setattr(device, "why_no_gpu", lambda: "no driver")
    for target, message in (
        ("GPU", "no GPU to run on: no driver"),
        ("Ascend", "no Ascend to run on: Unsupported device target Ascend."),
        ("TPU", "no TPU to run on: The argument 'device_target' must be one of ['CPU', 'GPU', 'Ascend']"),
    ):
        with pytest.raises(UserError) as caught:
            device.start(configuration(target))
        assert str(caught.value).split(", but got")[0] == message


def test_a_context_that_cannot_be_is_one_line(monkeypatch):
    monkeypatch.delenv("MS_ROLE", raising=False)
    for wrong, message in (
        ({"mode": 2}, r"context\.mode or seed: .*'mode'.* 2"),
        ({"seed": 2**32}, r"context\.mode or seed: .*4294967296|context\.mode or seed: Seed must be"),
        ({"run_distribute": True}, r"no ranks to join, use the run_distribute_\*\.sh: "),
    ):
        with pytest.raises(UserError, match=message) as caught:
            device.start(configuration(**wrong))
        assert "\n" not in str(caught.value)


PROGRAM = """
import random
from types import SimpleNamespace
import mindspore as ms, numpy as np
from shared_utils import device
from shared_utils.config import UserError

def start(target):
    context = SimpleNamespace(mode=0, device_target=target, device_id=0, save_graphs=False)
    train = SimpleNamespace(run_distribute=False)
    return device.start(SimpleNamespace(context=context, seed=3, train=train))

if device.why_no_gpu():
    try:
        start("GPU")
    except UserError as error:
        print(str(error).startswith("no GPU to run on: ") and str(error).count(chr(10)) == 0)
else:
    print(True)
for _ in range(2):
    print(start("CPU"), np.random.random(), random.random(), ms.get_seed())
"""  # a process of its own: a device can be chosen only before anything has run


def test_mindspore_refuses_a_missing_gpu_and_start_seeds_every_generator():
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    refused, first, again = done.stdout.splitlines()
    assert refused == "True" and first == again and first.startswith("(0, 1) 0.5507979025745755 ")
    assert first.endswith(" 3")
