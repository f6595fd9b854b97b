"""checkpoint: whole or not at all, damage is noticed, and every tensor that does not fit is named."""

import os
import resource

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from shared_utils import checkpoint
from shared_utils.config import UserError


class Net(nn.Cell):
    """Two dense layers with weights drawn from `seed`."""

    def __init__(self, classes=3, hidden=4, seed=0):
        super().__init__()
        self.body, self.head = nn.Dense(5, hidden), nn.Dense(hidden, classes)
        rng = np.random.default_rng(seed)
        for parameter in self.get_parameters():
            parameter.set_data(ms.Tensor(rng.normal(size=parameter.shape), ms.float32))


def parameters(cell):
    return {parameter.name: parameter for parameter in cell.get_parameters()}


def equal(cell, other):
    return all((value.asnumpy() == other[name].asnumpy()).all() for name, value in parameters(cell).items())


WEIGHTS = ["body.weight", "body.bias", "head.weight", "head.bias"]
FACTS = {"global_step": 3, "é": [1, None, 0.1], "weights": WEIGHTS}


@pytest.fixture
def path(tmp_path):
    checkpoint.save(tmp_path / "new" / "net.ckpt", parameters(Net()), FACTS)
    return tmp_path / "new" / "net.ckpt"


def test_what_is_saved_is_loaded(path):
    tensors, facts = checkpoint.load(path)
    assert facts == FACTS and tensors.keys() == parameters(Net()).keys() and equal(Net(), tensors)
    other = Net(seed=1)
    assert not equal(other, tensors)
    assert checkpoint.load_weights(other, path) == FACTS and equal(other, tensors)
    checkpoint.save(path, parameters(Net(seed=2)))
    assert checkpoint.load(path)[1] == {} and equal(Net(seed=2), checkpoint.load(path)[0])
    assert os.listdir(path.parent) == ["net.ckpt"] and path.stat().st_mode & 0o777 == 0o600


def test_a_checkpoint_of_plain_mindspore_is_loaded(tmp_path):
    ms.save_checkpoint(Net(), str(tmp_path / "plain.ckpt"))
    other = Net(seed=1)
    assert checkpoint.load_weights(other, tmp_path / "plain.ckpt") == {} and equal(other, parameters(Net()))


def assert_old_one_stays(path, error):
    with pytest.raises(UserError, match=f"cannot write .*{error}"):
        checkpoint.save(path, parameters(Net(hidden=20_000)))
    assert checkpoint.load(path)[1] == FACTS and equal(Net(), checkpoint.load(path)[0])
    assert os.listdir(path.parent) == ["net.ckpt"]


def test_a_file_that_cannot_grow_leaves_the_old_one(path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, hard))
    try:
        assert_old_one_stays(path, "File too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_an_error_of_the_disk_leaves_the_old_one(path, monkeypatch, call):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(UserError, match="No space left on device"):
            checkpoint.save(path, parameters(Net(seed=1)))
    assert equal(Net(), checkpoint.load(path)[0]) and os.listdir(path.parent) == ["net.ckpt"]


def test_a_full_disk_leaves_the_old_one(path, monkeypatch):
    def full(tensors, name, **keywords):
        with open(name, "wb") as file:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ms, "save_checkpoint", full)
        assert_old_one_stays(path, "No space left on device")


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot make the output folder"):
        checkpoint.save(tmp_path / "file" / "net.ckpt", parameters(Net()))


def test_every_damage_is_noticed(path):
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    damaged = path.with_name("damaged.ckpt")
    cuts = [whole[:size] for size in (0, 1, 10, len(whole) // 2, len(whole) - 5, len(whole) - 1)]
    flips = []
    for place in rng.integers(0, len(whole) - 20, 60):  # the last 20 bytes say that there is a checksum
        flips.append(bytearray(whole))
        flips[-1][place] ^= 1 << rng.integers(8)
    for content in [*cuts, *flips, b"no checkpoint\n" * 100]:
        damaged.write_bytes(content)
        with pytest.raises(UserError, match=r"^the checkpoint .*damaged\.ckpt cannot be read: ") as caught:
            checkpoint.load(damaged)
        assert "\n" not in str(caught.value)


def test_no_file(tmp_path):
    for name in ("none.ckpt", "."):
        with pytest.raises(UserError, match="no checkpoint at"):
            checkpoint.load(tmp_path / name)


def test_every_tensor_that_does_not_fit_is_named(path):
    class Other(Net):
        def __init__(self):
            super().__init__(classes=7, seed=1)
            self.extra = nn.Dense(2, 2)
            self.body = nn.Dense(5, 4, has_bias=False)

    other = Other()
    before = {name: value.asnumpy().copy() for name, value in parameters(other).items()}
    with pytest.raises(UserError) as caught:
        checkpoint.load_weights(other, path)
    for fault in (
        "missing extra.weight",
        "missing extra.bias",
        "unexpected body.bias",
        "head.weight is [3, 4] instead of [7, 4]",
        "head.bias is [3] instead of [7]",
        "5 tensors differ",
    ):
        assert fault in str(caught.value)
    assert all((value.asnumpy() == before[name]).all() for name, value in parameters(other).items())


def test_only_the_classifier_may_be_replaced(path):
    network, fresh = Net(classes=7, seed=1), Net(classes=7, seed=1)
    checkpoint.load_weights(network, path, replace=("head.",))
    assert equal(network.head, parameters(fresh.head)) and equal(network.body, parameters(Net().body))
    with pytest.raises(UserError, match=r"2 tensors differ: body\.weight"):
        checkpoint.load_weights(Net(hidden=6), path, replace=("head.",))
    for name in ("head.weight", "head.bias"):
        assert name in parameters(network)


def test_the_optimizers_tensors_are_passed_over(path):
    network = Net()
    state = {**parameters(network), **parameters(nn.Adam(network.trainable_params()))}
    assert len(state) > len(parameters(network))
    checkpoint.save(path, state, FACTS)
    checkpoint.load_weights(Net(seed=1), path)
    checkpoint.save(path, state)  # without the list of weights nobody knows what they are
    with pytest.raises(UserError, match="unexpected"):
        checkpoint.load_weights(Net(seed=1), path)


def test_newest_passes_over_what_is_damaged_or_no_state(tmp_path, capsys):
    assert checkpoint.latest(tmp_path, "net") is None
    with pytest.raises(UserError, match=r"net\.bin must end in \.ckpt"):
        checkpoint.save(tmp_path / "net.bin", {})
    assert not list(tmp_path.iterdir())
    steps = {"net-3_4": 12, "net_1-1_4": 4, "net_1-2_4": 8, "net_1-9_9": None, "net-best": 9, "other-5_5": 5}
    steps["net-best_9"] = 9  # a copy of the user's
    for age, (name, step) in enumerate(steps.items()):
        checkpoint.save(
            tmp_path / f"{name}.ckpt", parameters(Net(seed=age)), {"global_step": step} if step else {}
        )
        os.utime(tmp_path / f"{name}.ckpt", (age, age))
    path, tensors, facts = checkpoint.latest(tmp_path, "net")
    assert path.name == "net_1-2_4.ckpt" and facts == {"global_step": 8} and equal(Net(seed=2), tensors)
    os.utime(tmp_path / "net_1-1_4.ckpt", (2, 2))  # in the same tick
    assert checkpoint.latest(tmp_path, "net")[0].name == "net_1-2_4.ckpt"
    os.utime(tmp_path / "net_1-1_4.ckpt", (8, 8))  # copied after the later one
    assert checkpoint.latest(tmp_path, "net")[0].name == "net_1-2_4.ckpt"
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-100])
    os.utime(path, (9, 9))
    capsys.readouterr()
    assert checkpoint.latest(tmp_path, "net")[0].name == "net_1-1_4.ckpt"
    assert capsys.readouterr().out.count("passed over: the checkpoint") == 1
