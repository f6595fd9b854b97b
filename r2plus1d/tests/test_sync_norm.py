"""Synchronised batch norm: two ranks learn what one learns with all clips."""

import subprocess
import sys

import numpy as np

from ci.pack import pack
from shared_utils.tests import ranks

PROGRAM = """
from types import SimpleNamespace
import mindspore as ms
import numpy as np
from mindspore import nn
from shared_utils import device, optim
from src.step import TrainStep
from src.sync_norm import synchronise_norms

class Small(nn.Cell):
    def __init__(self):
        super().__init__()
        norms = nn.BatchNorm2d(6), nn.BatchNorm2d(8, momentum=0.6, eps=1e-3)
        self.layers = nn.SequentialCell(
            nn.Conv2d(3, 6, 3), norms[0], nn.ReLU(), nn.Conv2d(6, 8, 3), norms[1], nn.ReLU())
        self.classifier = nn.Dense(8, 4)
    def construct(self, clips, key=None):
        return self.classifier(self.layers(clips.mean(2)).mean((2, 3)))

context = SimpleNamespace(mode=0, device_target="CPU", device_id=0, save_graphs=False)
train = SimpleNamespace(run_distribute=False)
rank, count = device.start(SimpleNamespace(context=context, seed=1, train=train))
network = Small()
names = list(network.parameters_dict())
if count > 1 and SYNC:
    synchronise_norms(network, count)
assert list(network.parameters_dict()) == names
settings = SimpleNamespace(type="SGD", momentum=0.9, weight_decay=0.0)
step = TrainStep(network, optim.optimizer(settings, network.trainable_params(), 0.1), rank=rank, ranks=count)
step.set_train()
rng, losses = np.random.default_rng(0), []
for _ in range(8):
    clips = rng.normal(size=(8, 3, 2, 9, 7)).astype(np.float32)
    labels = rng.integers(0, 4, 8).astype(np.int32)
    clips *= rng.uniform(0.5, 2, (8, 3, 1, 1, 1)).astype(np.float32)
    loss = step(ms.Tensor(clips[rank::count]), ms.Tensor(labels[rank::count])).asnumpy()
    losses.append(device.all_gather(loss.reshape(1, 1), count).mean())
np.savez(f"{count}_{rank}.npz", losses=losses, **{p.name: p.asnumpy() for p in network.get_parameters()})
"""


def learn(folder, count, sync=True, port=8480):
    """What `count` ranks end with."""
    copy = pack(ranks.ROOT, "r2plus1d", folder)
    (copy / "small.py").write_text(PROGRAM.replace("SYNC", str(sync)))
    call = [sys.executable, "small.py"]
    if count > 1:
        devices = ",".join(map(str, range(count)))
        call = ["bash", "-c", f"source shared_utils/common.sh; ranks train {count} {devices} small.py"]
    done = subprocess.run(
        call, cwd=copy, env=ranks.environment(port), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [np.load(copy / f"{count}_{rank}.npz") for rank in range(count)]


def test_two_ranks_with_synchronised_norms_learn_what_one_learns(tmp_path):
    (alone,) = learn(tmp_path / "one", 1)
    for rank in learn(tmp_path / "two", 2):
        np.testing.assert_allclose(rank["losses"], alone["losses"], rtol=0, atol=1e-4)
        for name in alone.files:
            np.testing.assert_allclose(rank[name], alone[name], rtol=0, atol=1e-4, err_msg=name)
    apart = learn(tmp_path / "apart", 2, sync=False)[0]
    assert np.abs(apart["losses"] - alone["losses"]).max() > 1e-2
