"""training: what SIGTERM, errors, full disks and a lost power leave, and how a run goes on from there."""

import contextlib
import errno
import os
import signal

import numpy as np
import pytest

from shared_utils import checkpoint, training
from shared_utils.config import UserError
from shared_utils.tests.toy_run import (
    EPOCHS,
    STEPS,
    Seen,
    bits,
    drive,
    journal,
    make_run,
    names,
    rates,
    section,
    train,
)


def rates_of(rows):
    schedule = rates(lr_scheduler="cosine_annealing", warmup_epochs=0.5)
    return [schedule[row["step"] - 1] for row in rows]


def unhandled(settings, seen=None, **keywords):
    """Train until SystemExit; its status. The test's own handlers are back afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with pytest.raises(SystemExit) as end:
            train(settings, 0, seen or Seen(), **keywords)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return end.value.code


def test_a_full_disk_stops_training_and_leaves_the_states(tmp_path, monkeypatch):
    job = make_run(section(tmp_path))
    drive(job, 4)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="No space left on device"):
        drive(job, 4)
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["net-1_4.ckpt", "net-1_4.labels.json"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_at_once_and_ends_with_143(tmp_path, number):
    class Notice(Seen):
        def on_train_step_end(self, run_context):
            super().on_train_step_end(run_context)
            if len(self.rows) == 6:
                os.kill(os.getpid(), number)

    whole, settings = Seen(), section(tmp_path / "parts", save_checkpoint_epochs=0, resume="auto")
    reference = train(section(tmp_path / "whole"), 0, whole)
    assert unhandled(settings, Notice()) == 143 and names(tmp_path / "parts") == ["net-2_2.ckpt"]
    assert bits(train(settings, 5, Seen())) == bits(reference)


@pytest.mark.parametrize(("epoch", "number"), [(2, signal.SIGINT), (EPOCHS, signal.SIGTERM)])
def test_a_signal_while_validating_saves_and_the_resumed_run_validates(tmp_path, epoch, number):
    seen = []

    def scores(stop_at):
        def validate():
            seen.append(stop_at)
            if len(seen) == stop_at:
                os.kill(os.getpid(), number)
                raise AssertionError("the notice was not heard")
            return len(seen) / 10, ""

        return validate

    settings = section(tmp_path, save_checkpoint_epochs=0, resume="auto")
    assert unhandled(settings, validate=scores(epoch)) == 143
    assert names(tmp_path) == [f"net-{epoch}_4.ckpt", "net-best.ckpt"]
    job = make_run(settings, scores(0))
    assert len(seen) == epoch + 1 and job.best == (epoch + 1) / 10
    assert checkpoint.load(tmp_path / "net-best.ckpt")[1]["global_step"] == epoch * STEPS
    drive(job, (EPOCHS - epoch) * STEPS)
    assert [row["step"] for row in journal(tmp_path) if "validation" in row] == [4, 8, 12]


def test_an_error_while_validating_costs_no_step(tmp_path):
    def validate():
        raise UserError("too many bad videos")

    with pytest.raises(UserError, match="too many bad videos"):
        train(section(tmp_path, save_checkpoint_epochs=0), 0, Seen(), validate=validate)
    assert names(tmp_path) == ["net-1_4.ckpt"]
    for _ in range(2):  # the cause is still there: the one state that is kept stays
        with pytest.raises(UserError, match="too many bad videos"):
            make_run(section(tmp_path, keep_checkpoint_max=1, resume="auto"), validate)
        assert names(tmp_path) == ["net-1_4.ckpt"]
    job = make_run(section(tmp_path, resume="auto"))
    assert (job.step, job.validated) == (4, True)  # nothing will validate: its next states are whole


def test_a_validation_whose_best_cannot_be_written_is_repeated_and_told_once(tmp_path, monkeypatch):
    def full(path, *content):
        if "best" in path.name:
            raise UserError("no space left")
        save(path, *content)

    save = checkpoint.save
    with monkeypatch.context() as patch, pytest.raises(UserError, match="no space left"):
        patch.setattr(checkpoint, "save", full)
        train(section(tmp_path, save_checkpoint_epochs=0), 0, Seen(), validate=lambda: (0.5, ""))
    assert names(tmp_path) == ["net-1_4.ckpt"]
    assert make_run(section(tmp_path, resume="auto"), lambda: (0.5, "")).best == 0.5
    assert names(tmp_path) == ["net-1_4.ckpt", "net-best.ckpt"]
    assert [row["step"] for row in journal(tmp_path) if "validation" in row] == [4]


def test_sigterm_in_the_last_step_of_an_epoch_does_not_wait_for_the_validation(tmp_path):
    class Notice(Seen):
        def on_train_step_end(self, run_context):
            super().on_train_step_end(run_context)
            if len(self.rows) == STEPS:
                os.kill(os.getpid(), signal.SIGTERM)

    def validate():
        raise AssertionError("it was waited for")

    assert unhandled(section(tmp_path, save_checkpoint_epochs=0), seen=Notice(), validate=validate) == 143
    assert names(tmp_path) == ["net-1_4.ckpt"]
    assert checkpoint.load(tmp_path / "net-1_4.ckpt")[1]["validated"] is False


def test_a_signal_that_the_compiler_swallows_can_be_sent_again(tmp_path):
    def validate():
        with contextlib.suppress(SystemExit):  # as MindSpore does while it compiles
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("it was waited for")

    assert unhandled(section(tmp_path, save_checkpoint_epochs=0), seen=Seen(), validate=validate) == 143
    assert names(tmp_path) == ["net-1_4.ckpt"]


def test_sigterm_behind_the_saving_of_a_step_waits_for_the_next(tmp_path, monkeypatch):
    job = make_run(section(tmp_path, save_checkpoint_epochs=0))
    monkeypatch.setattr(job, "_tell_times", lambda epoch: job._leave(False))  # while it tells them
    with pytest.raises(SystemExit, match="143"):
        drive(job, STEPS + 1)
    assert names(tmp_path) == ["net-2_1.ckpt"]


def test_a_best_that_could_not_be_written_is_written_after_resuming(tmp_path, monkeypatch):
    real = checkpoint.save

    def full(path, *rest):
        if path.name == "net-best.ckpt":
            raise UserError("No space left on device")
        real(path, *rest)

    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(UserError, match="No space left"):
        train(section(tmp_path), 0, Seen(), validate=lambda: (0.7, ""))
    monkeypatch.undo()
    job = make_run(section(tmp_path, resume="auto"), lambda: (0.7, ""))
    assert job.best == 0.7 and names(tmp_path) == ["net-1_4.ckpt", "net-best.ckpt"]


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


def test_the_journal_of_a_run_that_saved_no_state_stays(tmp_path, capsys):
    job = make_run(section(tmp_path))
    assert make_run(section(tmp_path)).prefix == "net"  # the first one has left nothing yet
    job.note(loss=1.0)
    assert "net" not in capsys.readouterr().out
    assert make_run(section(tmp_path)).prefix == "net_1" and journal(tmp_path) == [{"step": 0, "loss": 1.0}]
    assert "has runs already: the files of this one are net_1-*" in capsys.readouterr().out


def test_what_a_lost_power_left_in_the_journal_is_passed_over(tmp_path):
    drive(make_run(section(tmp_path), lambda: (0.5, "")), 4)
    path = tmp_path / "net-log/metrics.jsonl"
    rows = path.read_text()
    path.write_text(rows + '{"step": 5, "loss": 1.0}\n' + "\0" * 20 + '{"step": 3}\n[3]\n{"step": "x"}\n{"lo')
    make_run(section(tmp_path, resume="auto"))
    assert path.read_text() == rows


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


def test_a_damaged_newest_state_gives_way_to_the_one_before(tmp_path, capsys):
    drive(make_run(section(tmp_path)), 8)
    newest = tmp_path / "net-2_4.ckpt"
    newest.chmod(0o600)
    newest.write_bytes(newest.read_bytes()[:-50])
    job = make_run(section(tmp_path, resume="auto"))
    assert job.step == 4 and "passed over" in capsys.readouterr().out
    drive(job, 8)
    assert make_run(section(tmp_path, resume="auto")).step == 12
