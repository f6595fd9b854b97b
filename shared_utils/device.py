"""The device, and the ranks that share a job."""
import ctypes
import os
import re
import subprocess
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import ops
from mindspore.communication import GlobalComm, get_group_size, get_rank, init

from shared_utils.config import UserError

CUDA_DRIVER = "libcuda.so.1"
# The newer of MindSpore's two; the CUDA 11.8 of requirements-gpu.txt keeps its interface.
CUDA_PLUGIN = Path(ms.__file__).with_name("lib") / "plugin/libmindspore_gpu.so.11.6"


def start(config):
    """Set execution mode, device and seeds, and join the other ranks where there are any: (rank, ranks).
    Raises UserError where the device cannot be used."""
    context = config.context
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):  # not on macOS
        libc.mallopt(-8, 1)  # M_ARENA_MAX: heaps of each thread grew by 40 MiB in 5,000 clips
    if context.device_target not in ("CPU", "GPU", "Ascend"):
        raise UserError(f"context.device_target must be CPU, GPU or Ascend, not {context.device_target}")
    try:
        ms.set_context(mode=context.mode)
        ms.set_seed(config.seed)  # numpy's too
    except ValueError as error:
        raise UserError(f"context.mode or seed: {str(error).splitlines()[0]}") from None
    if context.save_graphs:
        ms.set_context(save_graphs=True, save_graphs_path="./graphs")
    try:
        ms.set_device(context.device_target, context.device_id)
    except (RuntimeError, ValueError) as error:
        reason = (context.device_target == "GPU" and why_no_gpu()) or str(error).splitlines()[0]
        raise UserError(f"no {context.device_target} to run on: {reason}") from None
    if "MS_ROLE" not in os.environ and not config.train.run_distribute:
        return 0, 1
    try:
        init()
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"no ranks to join, use run_distribute_train.sh: {reason}") from None
    ms.set_auto_parallel_context(parallel_mode="data_parallel", gradients_mean=True, device_num=ranks()[1])
    return ranks()


def ranks():
    """(rank of this process, count of ranks): (0, 1) alone."""
    return (get_rank(), get_group_size()) if GlobalComm.INITED else (0, 1)


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
    remedy = "install the NVIDIA driver" if missing == [CUDA_DRIVER] else remedy
    if missing or not CUDA_PLUGIN.is_file():
        return f"{', '.join(missing) or CUDA_PLUGIN.name} not found: {remedy}"
    if not Path(os.environ.get("CUDA_HOME", ""), "bin/nvcc").is_file():
        return f"CUDA_HOME names no folder with bin/nvcc: {remedy}"
    status = ctypes.CDLL(CUDA_DRIVER).cuInit(0)
    return f"the NVIDIA driver finds no GPU that it can use (cuInit: error {status})" if status else ""
