"""The running of a job: device and ranks, progress, the state that a run resumes from."""
import contextlib
import ctypes
import itertools
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import communication, ops
from mindspore.train import Callback
from tqdm import tqdm

from shared_utils import checkpoint
from shared_utils.config import UserError
from shared_utils.datasets import check_label_map, label_map_of, write_label_map
from shared_utils.metrics import writable_folder

CUDA_DRIVER = "libcuda.so.1"
# The newer of MindSpore's two; the CUDA 11.8 of requirements-gpu.txt keeps its interface.
CUDA_PLUGIN = Path(ms.__file__).with_name("lib") / "plugin/libmindspore_gpu.so.11.6"


def start(config):
    """Set execution mode, device and seeds, and join the other ranks where there are any: (rank, ranks).

    Raises UserError where the device cannot be used.
    """
    context = config.context
    if context.device_target not in ("CPU", "GPU", "Ascend"):
        raise UserError(f"context.device_target must be CPU, GPU or Ascend, not {context.device_target}")
    ms.set_context(mode=context.mode)
    if context.save_graphs:
        ms.set_context(save_graphs=True, save_graphs_path="./graphs")
    try:
        ms.set_device(context.device_target, context.device_id)
    except (RuntimeError, ValueError) as error:
        reason = (context.device_target == "GPU" and why_no_gpu()) or str(error).splitlines()[0]
        raise UserError(f"no {context.device_target} to run on: {reason}") from None
    ms.set_seed(config.seed)  # numpy's too
    if "MS_ROLE" not in os.environ and not config.train.run_distribute:
        return 0, 1
    communication.init()
    ms.set_auto_parallel_context(parallel_mode="data_parallel", gradients_mean=True, device_num=ranks()[1])
    return ranks()


def ranks():
    """(rank of this process, count of ranks): (0, 1) alone."""
    if not communication.GlobalComm.INITED:
        return 0, 1
    return communication.get_rank(), communication.get_group_size()


def gathered(rows, count):
    """All (count, ...) float rows in order, of which a rank has the numbers rank, rank + ranks, ..."""
    size = ranks()[1]
    share = np.zeros((-(-count // size), *rows.shape[1:]), rows.dtype)
    share[:len(rows)] = rows
    if size > 1:
        bits = ms.Tensor(share.reshape(len(share), -1).view(np.float32))  # a CPU rounds float64
        share = ops.AllGather()(bits).asnumpy().view(rows.dtype).reshape(size, *share.shape).swapaxes(0, 1)
    return share.reshape(-1, *rows.shape[1:])[:count]


def why_no_gpu():
    """One line that tells why MindSpore cannot use a GPU in this process, or an empty string."""
    remedy = "pip install -r requirements-gpu.txt, then use the scripts, or source shared_utils/common.sh"
    listing = subprocess.run(["ldd", CUDA_PLUGIN], capture_output=True, text=True, check=False).stdout
    missing = sorted(re.findall(r"(\S+) => not found", listing))
    if missing == [CUDA_DRIVER]:
        return f"{CUDA_DRIVER} not found: install the NVIDIA driver"
    if missing or not CUDA_PLUGIN.is_file():
        return f"{', '.join(missing) or CUDA_PLUGIN.name} not found: {remedy}"
    if not Path(os.environ.get("CUDA_HOME", ""), "bin/nvcc").is_file():
        return f"CUDA_HOME names no folder with bin/nvcc: {remedy}"
    status = ctypes.CDLL(CUDA_DRIVER).cuInit(0)
    return f"the NVIDIA driver finds no GPU that it can use (cuInit: error {status})" if status else ""


class Progress(Callback):
    """Prints `epoch: 1 step: 8, loss is 5.92` every `log_steps` steps, and a bar with speed and time left
    on a terminal. A loss that is not finite ends the run with UserError."""

    def __init__(self, run, log_steps, clips_per_step):
        self.run, self.log_steps, self.clips = run, log_steps, clips_per_step

    def on_train_begin(self, run_context):
        self.begin, self.first = time.perf_counter(), self.run.step
        self.bar = tqdm(total=self.run.total_steps, initial=self.run.step, unit="step", dynamic_ncols=True,
                        disable=not sys.stderr.isatty())

    def on_train_step_end(self, run_context):
        outputs = run_context.original_args().net_outputs
        loss = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
        loss = float(gathered(loss.asnumpy().reshape(1, 1), ranks()[1]).mean())
        epoch, step = self.run.position()
        self.bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        self.bar.update()
        if not math.isfinite(loss):
            raise UserError(f"the loss is {loss} at epoch {epoch} step {step}; a lower lr may help")
        if step % self.log_steps == 0 or step == self.run.steps_per_epoch:
            tqdm.write(f"epoch: {epoch} step: {step}, loss is {loss:.6g}")

    def on_train_end(self, run_context):
        self.bar.close()
        seconds = time.perf_counter() - self.begin
        steps = self.run.step - self.first
        if steps:
            print(f"trained {steps} steps in {seconds:.1f} s: {seconds / steps * 1000:.0f} ms a step, "
                  f"{steps * self.clips / seconds:.1f} clips/s", flush=True)


class Run(Callback):
    """Where a training run stands, and what it keeps in `train.ckpt_path`.

    `step` counts optimizer steps over all epochs and is the one truth: data order, learning rate and what is
    saved when follow from it. States for resuming are prefix-epoch_step.ckpt, at most keep_checkpoint_max of
    this run; the weights of the best validation are prefix-best.ckpt. Files of earlier runs stay: the prefix
    gets a number then.
    """

    def __init__(self, section, prefix, network, trained, optimizer, steps_per_epoch, labels, validate=None,
                 rank=0, averaged=contextlib.nullcontext):
        """`section`: the YAML's train; `trained`: the loss cell around `network`; `labels`: {class name: id};
        `validate`: function to (score, text), the higher the better, or None; `averaged`: context in which
        the network has the weights to validate and keep. Raises UserError."""
        self.section, self.network, self.trained, self.optimizer = section, network, trained, optimizer
        self.validate, self.averaged, self.labels, self.rank = validate, averaged, labels, rank
        self.steps_per_epoch, self.total_steps = steps_per_epoch, steps_per_epoch * section.epochs
        self.step, self.best, self.kept = 0, None, []
        self.folder = writable_folder(section.ckpt_path)
        numbers = (f"{prefix}_{number}" if number else prefix for number in itertools.count())
        self.prefix = next(name for name in numbers if not any(self.folder.glob(f"{name}-*.ckpt")))
        if section.resume:
            self._resume(prefix)

    def position(self):
        """(epoch, step within it) of the last step taken, both counted from 1."""
        return (self.step - 1) // self.steps_per_epoch + 1, (self.step - 1) % self.steps_per_epoch + 1

    def epochs_left(self):
        """Epochs of steps_per_epoch steps until the end, the last one perhaps cut short."""
        return max(0, math.ceil((self.total_steps - self.step) / self.steps_per_epoch))

    def on_train_step_begin(self, run_context):
        """Count the step."""
        self.step += 1

    def on_train_step_end(self, run_context):
        """Validate and save where it is time."""
        (epoch, step), section = self.position(), self.section
        last, ended = self.step == self.total_steps, step == self.steps_per_epoch

        def due(count, every):
            return last or (every > 0 and count % every == 0)

        if self.validate and due(epoch, section.eval_epochs if ended else 0):
            self._keep_best(epoch)
        if self.rank == 0 and (due(epoch, section.save_checkpoint_epochs if ended else 0)
                               or due(self.step, section.save_checkpoint_steps)):
            self._save(f"{self.prefix}-{epoch}_{step}", self.state())
            self.kept.append(f"{self.prefix}-{epoch}_{step}")
            while len(self.kept) > max(1, section.keep_checkpoint_max):
                old = self.folder / f"{self.kept.pop(0)}.ckpt"
                for path in (old, label_map_of(old)):
                    path.unlink(missing_ok=True)
        if last:
            if self.best is not None:
                tqdm.write(f"best validation {self.best:.4f}: {self.folder / self.prefix}-best.ckpt")
            run_context.request_stop()

    def state(self):
        """{name: Parameter} of all that the next step depends on."""
        parameters = [*self.trained.get_parameters(), *self.optimizer.get_parameters()]
        return {parameter.name: parameter for parameter in parameters if parameter.name != "learning_rate"}

    def weights(self):
        """{name: Parameter} of the network alone."""
        return {parameter.name: parameter for parameter in self.network.get_parameters()}

    def _keep_best(self, epoch):
        with self.averaged():
            score, text = self.validate()
            tqdm.write(f"epoch: {epoch}, validation {text}")
            if self.best is None or score > self.best:
                self.best = score
                if self.rank == 0:
                    self._save(f"{self.prefix}-best", self.weights())

    def _save(self, name, parameters):
        facts = {"global_step": self.step, "steps_per_epoch": self.steps_per_epoch, "best": self.best,
                 "prefix": self.prefix, "kept": self.kept, "weights": list(self.weights())}
        write_label_map(label_map_of(self.folder / f"{name}.ckpt"), self.labels)
        checkpoint.save(self.folder / f"{name}.ckpt", parameters, facts)

    def _resume(self, prefix):
        """Go on from the state `train.resume`: a path, or auto for the newest in the folder, if any."""
        resume = self.section.resume
        found = checkpoint.newest(self.folder, prefix) if resume == "auto" else (
            Path(resume), *checkpoint.load(resume))
        if found is None:
            return
        path, tensors, facts = found
        checkpoint.assign(self.state(), tensors, path, kind="state of this run")
        if (steps := facts.get("steps_per_epoch")) != self.steps_per_epoch:
            raise UserError(f"{path} has epochs of {steps}, not {self.steps_per_epoch} steps")
        check_label_map(label_map_of(path), self.labels)
        self.step = facts["global_step"]
        own = self.folder / f"{facts['prefix']}-{'{}_{}'.format(*self.position())}.ckpt"
        if path.resolve() == own.resolve():  # a state from elsewhere begins a run of its own here
            self.best, self.kept, self.prefix = facts["best"], [*facts["kept"], path.stem], facts["prefix"]
        print(f"resumed from {path}: {self.step} of {self.total_steps} steps done", flush=True)
