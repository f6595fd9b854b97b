"""training: a run's files and lines, a resumed run equal to an unbroken one."""

import re

import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore.train import Model

from shared_utils import checkpoint, training
from shared_utils.config import UserError
from shared_utils.tests.toy_run import (
    EPOCHS,
    LABELS,
    STEPS,
    Numbers,
    Seen,
    bits,
    build,
    drive,
    make_run,
    names,
    read,
    section,
    train,
)


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


def test_a_state_written_again_counts_once(tmp_path):
    settings = section(tmp_path, keep_checkpoint_max=2, resume="auto")
    drive(make_run(settings), 8)

    def validate():
        raise UserError("none of the videos can be decoded")

    settings.epochs = 4
    for _ in range(3):  # the first validates after epoch 3, the others what they resume from
        with pytest.raises(UserError, match="none of the videos"):
            drive(make_run(settings, validate), 4)
    drive(make_run(settings), 4)
    assert names(tmp_path) == ["net-3_4.ckpt", "net-4_4.ckpt"]


def test_a_resumed_run_takes_the_momentum_of_its_yaml(tmp_path):
    with pytest.raises(MemoryError):
        train(section(tmp_path), 0, Seen(power_cut=6), "Momentum")
    job = train(section(tmp_path, resume="auto"), 0, Seen(), "Momentum", momentum=0.5)
    assert float(job.optimizer.momentum.asnumpy()) == 0.5


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
    refused(r"label map of .*net-1_4\.ckpt differs .*: class Archery is missing there and 0 here")


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
    assert re.search(r"^trained 12 steps in [\d.]+ s$", lines[-1])


def test_a_loss_that_is_no_number_stops_before_anything_is_saved(tmp_path):
    def poisoned(number):
        return read(number) * np.float32(np.nan if number == 7 else 1)

    with pytest.raises(
        UserError, match=r"the loss is nan at epoch 2 step 4; a lower lr may help"
    ):
        train(section(tmp_path), 0, Seen(), read=poisoned)
    assert names(tmp_path) == ["net-1_4.ckpt"]


def test_a_norm_of_one_number_ends_the_run_before_anything_is_saved(tmp_path):
    with pytest.raises(UserError, match="moving_variance is not finite: lower the lr or"):
        train(section(tmp_path), 0, Seen(), read=lambda number: read(number)[:1])
    assert names(tmp_path) == []


def test_an_earlier_state_of_a_run_begins_a_run_of_its_own(tmp_path):
    drive(make_run(section(tmp_path), lambda: (0.9, "")), 12)
    mine = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    job = make_run(section(tmp_path, resume=str(tmp_path / "net-2_4.ckpt")), lambda: (0.1, ""))
    assert (job.step, job.best, job.prefix) == (8, None, "net_1")
    drive(job, 4)
    assert all(path.read_bytes() == content for path, content in mine.items())
    last = make_run(section(tmp_path, epochs=4, resume=str(tmp_path / "net-3_4.ckpt")))
    assert (last.step, last.best, last.prefix) == (12, 0.9, "net")


def test_log_steps_0_tells_the_end_of_each_epoch(tmp_path, capsys):
    network, loss, optimizer = build()
    job = training.Run(section(tmp_path), "net", network, loss, optimizer, STEPS, LABELS)
    rows = ds.GeneratorDataset(Numbers(0), ["number"], shuffle=False)
    rows = rows.map(read, ["number"], ["rows"], python_multiprocessing=False)
    progress = training.Progress(job, log_steps=0, clips_per_step=6)
    Model(loss, optimizer=optimizer).train(EPOCHS, rows, callbacks=[progress, job], dataset_sink_mode=False)
    told = re.findall(r"^epoch: (\d) step: (\d), loss", capsys.readouterr().out, re.M)
    assert told == [("1", "4"), ("2", "4"), ("3", "4")]
