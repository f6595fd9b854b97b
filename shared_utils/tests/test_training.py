"""training: a run's files and lines, a resumed run equal to an unbroken one, a notice to stop."""

import errno
import json
import os
import re
import signal
from types import SimpleNamespace

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import nn
from mindspore.train import Callback, Model

from shared_utils import checkpoint, optim, training
from shared_utils.config import UserError

STEPS, EPOCHS = 4, 3
LABELS = {"Archery": 0, "YoYo": 1}


class Loss(nn.Cell):
    """Mean square of what a network with statistics of its own answers."""

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, rows):
        return (self.network(rows) - 1).square().mean()


class Numbers:
    """Numbers of the rows, epoch after epoch, from `first` on; MindSpore's copy of it is the same object."""

    def __init__(self, first):
        self.position = first

    def __len__(self):
        return STEPS

    def __deepcopy__(self, memo):
        return self

    def __iter__(self):
        first = self.position
        self.position += STEPS
        for number in range(first, first + STEPS):
            yield (np.array(number),)


class Seen(Callback):
    """The number of the rows and the loss of every step; may stop like a power cut."""

    def __init__(self, power_cut=None):
        self.rows, self.losses, self.power_cut = [], [], power_cut

    def on_train_step_end(self, run_context):
        arguments = run_context.original_args()
        self.rows.append(float(arguments.train_dataset_element[0].asnumpy()[0, 0]))
        self.losses.append(float(arguments.net_outputs.asnumpy()))
        if len(self.rows) == self.power_cut:
            raise MemoryError("power cut")


def section(folder, **keywords):
    defaults = {
        "ckpt_path": str(folder),
        "epochs": EPOCHS,
        "eval_epochs": 1,
        "save_checkpoint_epochs": 1,
        "save_checkpoint_steps": 0,
        "keep_checkpoint_max": 100,
        "resume": "",
    }
    return SimpleNamespace(**{**defaults, **keywords})


def rates(epochs=EPOCHS, steps=STEPS, **keywords):
    defaults = {
        "lr_scheduler": "constant",
        "lr": 0.1,
        "lr_epochs": [1, 2],
        "lr_gamma": 0.5,
        "eta_min": 0.01,
        "max_epoch": 0,
        "warmup_epochs": 0,
    }
    return optim.learning_rates(SimpleNamespace(**{**defaults, **keywords}), steps, epochs)


def build(seed=0, kind="Adam"):
    """(network, loss, optimizer) with weights drawn from `seed`."""
    network = nn.SequentialCell(nn.Dense(5, 4), nn.BatchNorm1d(4, momentum=0.5))
    rng = np.random.default_rng(seed)
    for parameter in network.trainable_params():
        parameter.set_data(ms.Tensor(rng.normal(size=parameter.shape), ms.float32))
    loss = Loss(network)
    settings = SimpleNamespace(type=kind, momentum=0.9, weight_decay=0.01, loss_scale=1.0)
    schedule = rates(lr_scheduler="cosine_annealing", warmup_epochs=0.5)
    return network, loss, optim.optimizer(settings, loss.trainable_params(), schedule)


def read(number):
    rows = np.random.default_rng(int(number)).normal(size=(6, 5)).astype(np.float32)
    rows[0, 0] = number
    return rows


def train(settings, seed, seen, kind="Adam", read=read, validate=None):
    """Train as a train.py does; the finished Run."""
    network, loss, optimizer = build(seed, kind)
    job = training.Run(settings, "net", network, loss, optimizer, STEPS, LABELS, validate)
    rows = ds.GeneratorDataset(Numbers(job.step), ["number"], shuffle=False)
    rows = rows.map(read, ["number"], ["rows"], python_multiprocessing=False)
    progress = training.Progress(job, log_steps=2, clips_per_step=6)
    model = Model(loss, optimizer=optimizer)
    model.train(job.epochs_left(), rows, callbacks=[seen, progress, job], dataset_sink_mode=False)
    return job


def bits(job):
    return {name: value.asnumpy().tobytes() for name, value in job.state().items()}


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix == ".ckpt")


def drive(job, steps):
    """Take `steps` steps without training."""
    context = SimpleNamespace(request_stop=lambda: None)
    job.on_train_begin(context)
    for _ in range(steps):
        job.on_train_step_begin(context)
        job.on_train_step_end(context)


def make_run(settings, validate=None, rank=0):
    return training.Run(settings, "net", *build(), STEPS, LABELS, validate, rank)


@pytest.mark.parametrize("kind", ["Adam", "Momentum", "SGD"])
def test_a_run_resumed_within_an_epoch_ends_with_the_same_bits(tmp_path, kind, capsys):
    whole, first, rest = Seen(), Seen(power_cut=8), Seen()
    reference = train(section(tmp_path / "whole"), 0, whole, kind)
    assert whole.rows == list(range(STEPS * EPOCHS)) and len(set(whole.losses)) == len(whole.losses)
    assert reference.epochs_left() == 0
    parts = section(tmp_path / "parts", save_checkpoint_steps=3, resume="auto")
    with pytest.raises(MemoryError):
        train(parts, 0, first, kind)
    assert names(tmp_path / "parts") == ["net-1_3.ckpt", "net-1_4.ckpt", "net-2_2.ckpt"]
    job = train(parts, 1, rest, kind)  # other weights: all must come from the file
    assert f"resumed from {tmp_path}/parts/net-2_2.ckpt: 6 of 12 steps done" in capsys.readouterr().out
    assert (rest.rows, rest.losses) == (whole.rows[6:], whole.losses[6:])
    assert bits(job) == bits(reference)
    tensors, facts = checkpoint.load(tmp_path / "parts" / "net-3_4.ckpt")
    assert {name: tensors[name].asnumpy().tobytes() for name in bits(job)} == bits(job)
    assert facts["global_step"] == 12 and facts["weights"] == [
        value.name for value in job.network.get_parameters()
    ]
    assert any("moving_mean" in name for name in bits(job)) and len(bits(job)) > len(facts["weights"])


def test_the_best_of_a_resumed_run_is_the_best_of_all(tmp_path):
    scores = iter([0.5, 0.7, 0.6, 0.7, 0.9])
    settings = section(tmp_path, save_checkpoint_epochs=1)
    first = make_run(settings, lambda: (next(scores), "fair"))
    drive(first, 2 * STEPS)
    again = make_run(section(tmp_path, epochs=5, resume="auto"), lambda: (next(scores), "fair"))
    assert (again.step, again.best, again.epochs_left()) == (8, 0.7, 3)
    drive(again, 2 * STEPS)
    assert checkpoint.load(tmp_path / "net-best.ckpt")[1]["global_step"] == 8
    drive(again, STEPS)
    tensors, facts = checkpoint.load(tmp_path / "net-best.ckpt")
    assert (facts["global_step"], facts["best"]) == (20, 0.9) and tensors.keys() == set(facts["weights"])
    assert make_run(section(tmp_path, epochs=5, resume="auto")).epochs_left() == 0
    assert make_run(section(tmp_path, epochs=2, resume="auto")).epochs_left() == 0


def test_when_a_run_validates_and_saves(tmp_path):
    calls = []
    settings = section(tmp_path, eval_epochs=2, save_checkpoint_epochs=0, save_checkpoint_steps=5)
    job = make_run(settings, lambda: (calls.append(job.step) or 0.0, ""))
    drive(job, 12)
    assert calls == [8, 12]
    assert names(tmp_path) == ["net-2_1.ckpt", "net-3_2.ckpt", "net-3_4.ckpt", "net-best.ckpt"]
    assert {path.name for path in tmp_path.glob("*.json")} == {
        name.replace(".ckpt", ".labels.json") for name in names(tmp_path)
    }
    drive(make_run(section(tmp_path / "second"), lambda: (0.0, ""), rank=1), 12)
    assert names(tmp_path / "second") == []


def test_pruning_and_numbering_leave_earlier_runs_alone(tmp_path):
    drive(make_run(section(tmp_path, keep_checkpoint_max=2)), 12)
    assert names(tmp_path) == ["net-2_4.ckpt", "net-3_4.ckpt"]
    kept = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    drive(make_run(section(tmp_path, keep_checkpoint_max=1)), 12)
    assert names(tmp_path) == ["net-2_4.ckpt", "net-3_4.ckpt", "net_1-3_4.ckpt"]
    drive(make_run(section(tmp_path, keep_checkpoint_max=0, epochs=1)), 4)
    assert names(tmp_path)[2:] == ["net_1-3_4.ckpt", "net_2-1_4.ckpt"]
    assert all((tmp_path / name).read_bytes() == content for name, content in kept.items())
    assert len(list(tmp_path.glob("*.labels.json"))) == 4


def test_a_resumed_run_prunes_what_it_wrote_before(tmp_path):
    drive(make_run(section(tmp_path, keep_checkpoint_max=2)), 8)
    drive(make_run(section(tmp_path, epochs=4, keep_checkpoint_max=2, resume="auto")), 8)
    assert names(tmp_path) == ["net-3_4.ckpt", "net-4_4.ckpt"]


def test_a_state_from_elsewhere_begins_a_run_of_its_own(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    drive(make_run(section(here), lambda: (0.9, "")), 8)
    drive(make_run(section(there), lambda: (0.9, "")), 8)
    mine = {path: path.read_bytes() for folder in (here, there) for path in folder.glob("*.*")}
    settings = section(there, keep_checkpoint_max=1, resume=str(here / "net-1_4.ckpt"))
    job = make_run(settings, lambda: (0.1, ""))
    assert (job.step, job.best) == (4, None)
    drive(job, 8)
    assert set(names(there)) - {path.name for path in mine} == {"net_1-3_4.ckpt", "net_1-best.ckpt"}
    assert all(path.read_bytes() == content for path, content in mine.items())


def test_a_damaged_newest_state_gives_way_to_the_one_before(tmp_path, capsys):
    drive(make_run(section(tmp_path)), 8)
    newest = tmp_path / "net-2_4.ckpt"
    newest.chmod(0o600)
    newest.write_bytes(newest.read_bytes()[:-50])
    job = make_run(section(tmp_path, resume="auto"))
    assert job.step == 4 and "passed over" in capsys.readouterr().out
    drive(job, 8)
    assert make_run(section(tmp_path, resume="auto")).step == 12


def test_states_of_something_else_are_refused(tmp_path):
    drive(make_run(section(tmp_path), lambda: (0.5, "")), 4)
    state = str(tmp_path / "net-1_4.ckpt")

    def refused(message, labels=LABELS, steps=STEPS, kind="Adam", resume=state):
        with pytest.raises(UserError, match=message):
            training.Run(section(tmp_path, resume=resume), "net", *build(kind=kind), steps, labels)

    refused("epochs of 4, not 5 steps", steps=5)
    refused("tensors differ: .*missing moments", kind="Momentum")
    refused("class YoYo is 1 there and 2 here", labels={"Archery": 0, "YoYo": 2})
    refused("tensors differ: .*missing moment1", resume=str(tmp_path / "net-best.ckpt"))
    refused("no checkpoint at none.ckpt", resume="none.ckpt")
    (tmp_path / "net-1_4.labels.json").unlink()
    refused("cannot read the label map")


def test_a_full_disk_stops_training_and_leaves_the_states(tmp_path, monkeypatch):
    job = make_run(section(tmp_path))
    drive(job, 4)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "replace", full)
    with pytest.raises(UserError, match="No space left on device"):
        drive(job, 4)
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["net-1_4.ckpt", "net-1_4.labels.json"]


def test_lines_of_progress(tmp_path, capsys):
    seen = Seen()
    train(section(tmp_path), 0, seen, validate=lambda: (0.5, "accuracy 0.5000"))
    lines = capsys.readouterr().out.splitlines()
    wanted = [
        f"epoch: {epoch} step: {step}, loss is {seen.losses[(epoch - 1) * STEPS + step - 1]:.6g}"
        for epoch in (1, 2, 3)
        for step in (2, 4)
    ]
    assert [line for line in lines if line.startswith("epoch: ") and " step: " in line] == wanted
    assert [line for line in lines if "validation" in line] == [
        *(f"epoch: {epoch}, validation accuracy 0.5000" for epoch in (1, 2, 3)),
        f"best validation 0.5000: {tmp_path}/net-best.ckpt",
    ]
    assert re.search(r"^trained 12 steps in [\d.]+ s: \d+ ms a step, [\d.]+ clips/s$", lines[-1])


def test_a_loss_that_is_no_number_stops_before_anything_is_saved(tmp_path):
    def poisoned(number):
        return read(number) * np.float32(np.nan if number == 7 else 1)

    with pytest.raises(
        UserError, match=r"the loss is nan at epoch 2 step 4; a lower lr may help"
    ):
        train(section(tmp_path), 0, Seen(), read=poisoned)
    assert names(tmp_path) == ["net-1_4.ckpt"]


def journal(folder, name="net"):
    lines = (folder / f"{name}-log/metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_the_journal_of_a_resumed_run_has_every_step_once(tmp_path):
    settings = section(tmp_path, save_checkpoint_steps=3, save_checkpoint_epochs=0, resume="auto")
    with pytest.raises(MemoryError):
        train(settings, 0, Seen(power_cut=8))
    with open(tmp_path / "net-log/metrics.jsonl", "a") as file:
        file.write('{"step": 8, "lo')  # cut by the power
    train(settings, 5, Seen())
    rows = journal(tmp_path)
    losses = [row for row in rows if "loss" in row]
    assert [row["step"] for row in losses] == [2, 4, 6, 8, 10, 12]
    np.testing.assert_allclose([row["lr"] for row in losses], rates_of(losses), rtol=1e-6)
    assert all(row["clips_per_second"] > 0 for row in losses)
    shares = [[row[f"share_{name}"] for name in ("data", "step")] for row in rows if "share_step" in row]
    assert len(shares) == 3 and all(0 < sum(share) <= 1 for share in shares)
    assert any(path.name.startswith("events.out.tfevents") for path in (tmp_path / "net-log").iterdir())


def rates_of(rows):
    schedule = rates(lr_scheduler="cosine_annealing", warmup_epochs=0.5)
    return [schedule[row["step"] - 1] for row in rows]


def test_sigterm_saves_at_once_and_ends_with_143(tmp_path):
    class Notice(Seen):
        def on_train_step_end(self, run_context):
            super().on_train_step_end(run_context)
            if len(self.rows) == 6:
                os.kill(os.getpid(), signal.SIGTERM)

    whole, settings = Seen(), section(tmp_path / "parts", save_checkpoint_epochs=0, resume="auto")
    reference = train(section(tmp_path / "whole"), 0, whole)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as end:
            train(settings, 0, Notice())
    finally:
        signal.signal(signal.SIGTERM, before)
    assert end.value.code == 143 and names(tmp_path / "parts") == ["net-2_2.ckpt"]
    assert bits(train(settings, 5, Seen())) == bits(reference)


def test_a_full_shm_costs_tensorboards_scalars_alone(tmp_path, monkeypatch, capsys):
    def writer(*folder, **options):
        if folder:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(**options)

    real = training.SummaryWriter
    monkeypatch.setattr(training, "SummaryWriter", writer)
    train(section(tmp_path), 0, Seen())
    assert "no scalars for TensorBoard: No space left on device" in capsys.readouterr().err
    assert len(journal(tmp_path)) > 0 and not list(tmp_path.rglob("*tfevents*"))
