"""The running of a job: progress, the state that a run resumes from, what it leaves to read."""
import contextlib
import json
import re
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore.train import Callback
from tensorboardX import SummaryWriter
from tqdm import tqdm

from shared_utils import checkpoint
from shared_utils.config import UserError, explain
from shared_utils.datasets import check_labels, read_label_map, write_label_map
from shared_utils.device import all_gather, ranks
from shared_utils.metrics import writable_folder, write_text


class Progress(Callback):
    """Prints `epoch: 1 step: 8, loss is 5.92` every `log_steps` steps (0: of an epoch's last) and a bar with
    speed and time left on a terminal. A loss that is not finite ends the run with UserError."""

    def __init__(self, run, log_steps, clips_per_step):
        self.run, self.log_steps, self.clips = run, log_steps, clips_per_step

    def on_train_begin(self, run_context):
        self.begin, self.mark = time.perf_counter(), (time.perf_counter(), self.run.step)
        self.bar = tqdm(total=self.run.total_steps, initial=self.run.step, unit="step", dynamic_ncols=True,
                        disable=not sys.stderr.isatty())

    def on_train_step_end(self, run_context):
        outputs = run_context.original_args().net_outputs
        loss = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
        loss = float(all_gather(loss.asnumpy().reshape(1, 1), ranks()[1]).mean())
        epoch, step = self.run.position()
        self.bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        self.bar.update()
        if not np.isfinite(loss):
            raise UserError(f"the loss is {loss} at epoch {epoch} step {step}; a lower lr may help")
        if (self.log_steps and step % self.log_steps == 0) or step == self.run.steps_per_epoch:
            tqdm.write(f"epoch: {epoch} step: {step}, loss is {loss:.6g}")
            (begin, first), self.mark = self.mark, (time.perf_counter(), self.run.step)
            speed = (self.run.step - first) * self.clips / (self.mark[0] - begin)
            rates = self.run.optimizer.learning_rate.learning_rate.asnumpy()
            self.run.note(epoch=epoch, loss=loss, lr=float(rates[self.run.step - 1]), clips_per_second=speed)

    def on_train_end(self, run_context):
        self.bar.close()
        if steps := self.run.step - self.run.first:
            print(f"trained {steps} steps in {time.perf_counter() - self.begin:.1f} s", flush=True)


class Run(Callback):
    """A training run, and what it keeps in `train.ckpt_path`. `step` counts optimizer steps over all epochs
    and is the one truth: data order, learning rate and what is saved when follow from it. States to resume
    from are prefix-epoch_step.ckpt, the last keep_checkpoint_max, the best validation's weights
    prefix-best.ckpt, numbers by step prefix-log/; the prefix gets a number beside files of earlier runs."""

    def __init__(self, section, prefix, network, trained, optimizer, steps_per_epoch, labels, validate=None,
                 rank=0, averaged=contextlib.nullcontext, bad=None):
        """`section`: the YAML's train; `trained`: the loss around `network`; `validate`: to (score, text);
        `averaged`: context in which `network` has the weights to validate and keep. Raises UserError."""
        self.section, self.network, self.trained, self.optimizer = section, network, trained, optimizer
        self.validate, self.averaged, self.labels, self.rank, self.bad = validate, averaged, labels, rank, bad
        self.steps_per_epoch, self.total_steps = steps_per_epoch, steps_per_epoch * section.epochs
        self.step, self.best, self.kept, self.validated = 0, None, [], True
        self.validating = self.asked_to_stop = False
        self.folder = writable_folder(section.ckpt_path)
        numbers = (f"{prefix}_{number}" if number else prefix for number in range(sys.maxsize))
        self.prefix = next(name for name in numbers if not any(self.folder.glob(f"{name}-*")))
        if section.resume:
            self._resume(prefix)
        if (rank, self.step) == (0, 0) and self.prefix != prefix:
            print(f"{self.folder} has runs already: the files of this one are {self.prefix}-*", flush=True)
        steps = all_gather(np.full((1, 1), self.step, np.float32), ranks()[1])[:, 0].tolist()
        if set(steps) != {self.step}:
            raise UserError(f"the ranks begin at steps {steps}: each host needs the states of {self.folder}")
        self.log = self.folder / f"{self.prefix}-log" / "metrics.jsonl"
        if rank == 0 and self.log.exists():  # what came after the state that is resumed from will come again
            rows = self.log.read_text(errors="replace").splitlines()
            kept = (re.fullmatch(r'{"step": (\d+)\b.*}', row) for row in rows)  # not what lost power cut
            write_text(self.log, "".join(f"{row[0]}\n" for row in kept if row and int(row[1]) <= self.step))
        self.mark, self.seconds, self.first, self.board = time.perf_counter(), Counter(), self.step, None
        if self.validate and not self.validated:
            self._validate()

    def note(self, **numbers):
        """Keep numbers of the step in metrics.jsonl, and for TensorBoard. Raises UserError."""
        if self.rank == 0:
            writable_folder(self.log.parent)
            with explain(OSError, f"cannot write {self.log}"), open(self.log, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": self.step, **numbers}) + "\n")
            try:
                self.board = self.board or SummaryWriter(str(self.log.parent), purge_step=self.first + 1)
            except OSError as error:  # its queue wants room in /dev/shm
                print(f"no scalars for TensorBoard: {error.strerror}", file=sys.stderr, flush=True)
                self.board = SummaryWriter(write_to_disk=False)
            for name, number in numbers.items():
                self.board.add_scalar(name, number, self.step)

    def position(self):
        """(epoch, step within it) of the last step taken, both counted from 1."""
        return (self.step - 1) // self.steps_per_epoch + 1, (self.step - 1) % self.steps_per_epoch + 1

    def epochs_left(self):
        """Epochs of steps_per_epoch steps until the end, the last one perhaps cut short."""
        return max(0, -(-(self.total_steps - self.step) // self.steps_per_epoch))

    def on_train_begin(self, run_context):
        signal.signal(signal.SIGTERM, lambda *_: self._leave(self.validating))  # a step ends first, 143

    def on_train_step_begin(self, run_context):
        self.step += 1
        self._spent("data")

    def on_train_step_end(self, run_context):
        self._spent("step")
        (epoch, step), section = self.position(), self.section
        last, ended = self.step == self.total_steps, step == self.steps_per_epoch
        def due(count, every):
            return last or (every > 0 and count % every == 0)
        if ranks()[1] > 1 and (ended or due(self.step, section.save_checkpoint_steps)):
            for name, own in self.state().items():  # what each rank's norms have gathered becomes the mean
                if "moving_" in name:
                    own.set_data(ms.Tensor(all_gather(own.asnumpy()[None], ranks()[1]).mean(axis=0)))
        if self.validate and due(epoch, section.eval_epochs if ended else 0):
            self._validate()
        stop = self.asked_to_stop  # a signal from here on is for the next step, which saves
        if self.rank == 0 and (due(epoch, section.save_checkpoint_epochs if ended else 0)
                               or due(self.step, section.save_checkpoint_steps) or stop):
            self._save_state()
        if ended or last:
            self._tell_times(epoch)
        if stop:
            self._leave(True)
        if last:
            if self.best is not None:
                tqdm.write(f"best validation {self.best:.4f}: {self.folder / self.prefix}-best.ckpt")
            run_context.request_stop()

    def state(self):
        """{name: Parameter} of all that the next step depends on but what the YAML gives."""
        state = {**self.trained.parameters_dict(), **self.optimizer.parameters_dict()}
        return {name: own for name, own in state.items() if name not in ("learning_rate", "momentum")}

    def _spent(self, on):
        now = time.perf_counter()
        self.seconds[on], self.mark = self.seconds[on] + now - self.mark, now

    def _tell_times(self, epoch):
        total = sum(self.seconds.values())
        shares = {name: seconds / total for name, seconds in self.seconds.items()}
        tqdm.write(f"epoch: {epoch}, {total:.1f} s: " + ", ".join(f"{on} {shares[on]:.1%}" for on in shares))
        bad = {"bad_videos": len(self.bad.paths) + self.bad.missing} if self.bad else {}
        self.note(epoch=epoch, **{f"share_{name}": share for name, share in shares.items()}, **bad)
        self.seconds.clear()

    def _leave(self, now):
        self.asked_to_stop = True
        if now:
            tqdm.write("stopped after epoch {} step {}, resume=auto goes on".format(*self.position()))
            sys.exit(143)

    def _validate(self):
        """Keep the best. What ends it on the way, SIGTERM or an error, costs no step: the state is saved."""
        best, self.validated, epoch = self.best, False, self.position()[0]
        try:
            if self.asked_to_stop:
                self._leave(True)
            with self.averaged():
                self.validating = True
                try:
                    score, text = self.validate()
                finally:  # what a signal cuts short is the validation, and nothing behind it
                    self.validating = False
                tqdm.write(f"epoch: {epoch}, validation {text}")
                if best is None or score > best:
                    self.best = score
                    if self.rank == 0:
                        self._save(f"{self.prefix}-best", self.network.parameters_dict())
                self.note(epoch=epoch, validation=score)
        except (UserError, SystemExit, OSError):
            self.best = best
            if self.rank == 0:
                self._save_state()
            raise
        self.validated = True
        self._spent("evaluation")

    def _save_state(self):
        name = "{}-{}_{}".format(self.prefix, *self.position())
        self.kept = [*(other for other in self.kept if other != name), name]
        self._save(name, self.state())
        self._spent("saving")
        while len(self.kept) > max(1, self.section.keep_checkpoint_max):
            old = self.kept.pop(0)
            for suffix in (".ckpt", ".labels.json"):
                (self.folder / f"{old}{suffix}").unlink(missing_ok=True)

    def _save(self, name, parameters):
        if spoilt := [key for key, value in parameters.items() if not np.isfinite(value.asnumpy()).all()]:
            raise UserError(f"{spoilt[0]} is not finite: lower the lr or loss_scale, or take larger clips")
        facts = {k: getattr(self, k) for k in ("steps_per_epoch", "best", "prefix", "kept", "validated")}
        facts.update(global_step=self.step, weights=[*self.network.parameters_dict()])
        path = self.folder / f"{name}.ckpt"
        write_label_map(path, self.labels)
        checkpoint.save(path, parameters, facts)

    def _resume(self, prefix):
        found = checkpoint.latest(self.folder, prefix) if self.section.resume == "auto" else (
            Path(self.section.resume), *checkpoint.load(self.section.resume))
        if found is None:
            return
        path, tensors, facts = found
        state = self.state()
        checkpoint.assign(state, tensors, path, sorted(set(tensors) - set(state)), "state of this run")
        if (steps := facts.get("steps_per_epoch")) != self.steps_per_epoch:
            raise UserError(f"{path} has epochs of {steps}, not {self.steps_per_epoch} steps")
        check_labels(f"the label map of {path}", read_label_map(path) or {}, self.labels)
        self.step, self.validated = facts["global_step"], facts.get("validated", True) or not self.validate
        states = [*filter(None, map(checkpoint.place, self.folder.glob(f"{facts['prefix']}-[0-9]*_*.ckpt")))]
        own = path.resolve().parent == self.folder.resolve() and checkpoint.place(path) in states
        # A state from elsewhere, or that others came after, begins a run of its own here.
        if own and (self.section.resume == "auto" or checkpoint.place(path) == max(states)):
            self.best, self.kept, self.prefix = facts["best"], facts["kept"], facts["prefix"]
        print(f"resumed from {path}: {self.step} of {self.total_steps} steps done", flush=True)
