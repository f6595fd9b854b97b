"""A run of a few steps, for the tests of training."""

import json
from types import SimpleNamespace

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore import nn
from mindspore.train import Callback, Model

from shared_utils import optim, training

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


def build(seed=0, kind="Adam", momentum=0.9):
    """(network, loss, optimizer) with weights drawn from `seed`."""
    network = nn.SequentialCell(nn.Dense(5, 4), nn.BatchNorm1d(4, momentum=0.5))
    rng = np.random.default_rng(seed)
    for parameter in network.trainable_params():
        parameter.set_data(ms.Tensor(rng.normal(size=parameter.shape), ms.float32))
    loss = Loss(network)
    settings = SimpleNamespace(type=kind, momentum=momentum, weight_decay=0.01, loss_scale=1.0)
    schedule = rates(lr_scheduler="cosine_annealing", warmup_epochs=0.5)
    return network, loss, optim.optimizer(settings, loss.trainable_params(), schedule)


def read(number):
    rows = np.random.default_rng(int(number)).normal(size=(6, 5)).astype(np.float32)
    rows[0, 0] = number
    return rows


def train(settings, seed, seen, kind="Adam", read=read, validate=None, momentum=0.9):
    """Train as a train.py does; the finished Run."""
    network, loss, optimizer = build(seed, kind, momentum)
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


def journal(folder, name="net"):
    lines = (folder / f"{name}-log/metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]
