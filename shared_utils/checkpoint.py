"""Checkpoints: written whole or not at all, read with every tensor accounted for."""
import json
import re
from pathlib import Path

import mindspore as ms
import numpy as np

from shared_utils.config import UserError, explain
from shared_utils.metrics import atomic_write


def save(path, tensors, facts=None):
    """Write {name: Parameter} and the JSON-able `facts` to `path`, whole or not at all. Raises UserError."""
    if Path(path).suffix != ".ckpt":
        raise UserError(f"{path} must end in .ckpt")
    rows = [{"name": name, "data": tensor} for name, tensor in tensors.items()]  # of a dict it drops Tensors
    with atomic_write(path) as part:
        ms.save_checkpoint(rows, str(part), append_dict={"facts": json.dumps(facts or {})}, crc_check=True)
        part.chmod(0o600)  # MindSpore's files cannot be written to, and rm asks about each


def load(path):
    """({name: Parameter}, facts) of a checkpoint; no facts of one that `save` did not write. Raises UserError
    for a missing or damaged file."""
    if not Path(path).is_file():
        raise UserError(f"no checkpoint {f'at {path}' if str(path) else 'is named'}")
    with explain(Exception, f"the checkpoint {path} cannot be read"), open(path, "rb") as file:
        file.seek(max(0, Path(path).stat().st_size - 64))
        tensors = ms.load_checkpoint(str(path), crc_check=b"crc_num" in file.read())
    facts = tensors.pop("facts", "{}")
    return tensors, json.loads(facts) if isinstance(facts, str) else {}


def load_weights(network, path, replace=()):
    """Load the network's parameters from the checkpoint `path`, but those whose names begin as one of the
    tuple `replace`; returns its facts. An optimizer's state is passed over. Raises UserError, see assign."""
    tensors, facts = load(path)
    wanted = {name: own for name, own in network.parameters_dict().items() if not name.startswith(replace)}
    unexpected = sorted(set(facts.get("weights", tensors)) - set(wanted))
    assign(wanted, tensors, path, [name for name in unexpected if not name.startswith(replace)])
    return facts


def assign(wanted, tensors, path, unexpected=(), kind="checkpoint of this network"):
    """Give {name: Parameter} `wanted` the values of `tensors` of the file `path`, all or none. Raises
    UserError with the first 40 missing, `unexpected`, wrongly shaped or not finite ones: it is no `kind`."""
    faults = [f"missing {name}" for name in wanted if name not in tensors]
    faults += [f"unexpected {name}" for name in unexpected]
    faults += [f"{name} is {[*tensors[name].shape]} instead of {[*own.shape]}" for name, own in wanted.items()
               if name in tensors and tensors[name].shape != own.shape]
    faults = faults or [f"{n} is not finite" for n in wanted if not np.isfinite(tensors[n].asnumpy()).all()]
    if faults:
        told = "; ".join(faults[:40] + ["..."] * (len(faults) > 40))
        raise UserError(f"{path} is no {kind}, {len(faults)} tensors differ: {told}")
    for name, parameter in wanted.items():
        parameter.set_data(ms.Tensor(tensors[name].asnumpy(), parameter.dtype))


def place(path):
    """(prefix of its run, epoch, step) of a state prefix-epoch_step.ckpt; None of another file."""
    found = re.fullmatch(r"(.+)-(\d+)_(\d+)", path.stem)
    return found and (found[1], int(found[2]), int(found[3]))


def latest(folder, prefix):
    """(path, tensors, facts) of the last whole state of a run in `folder`, or None; damaged ones are told."""
    states = sorted(filter(place, Path(folder).glob(f"{prefix}*.ckpt")), key=lambda at: at.stat().st_mtime_ns)
    ages = {place(path)[0]: age for age, path in enumerate(states)}  # within a run a copy may have changed it
    for path in sorted(states, key=lambda path: (ages[place(path)[0]], place(path)), reverse=True):
        try:
            tensors, facts = load(path)
            if "global_step" in facts:
                return path, tensors, facts
        except UserError as error:
            print(f"passed over: {error}", flush=True)
    return None
