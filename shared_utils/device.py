"""The device, the ranks that share a job, and the compiled step that a run keeps."""
import ctypes
import hashlib
import os
import signal
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import ops
from mindspore.common.api import cells_compile_cache
from mindspore.communication import GlobalComm, get_group_size, get_rank, init
from mindspore.train import Callback

from shared_utils.config import UserError, explain

CUDA_DRIVER = "libcuda.so.1"
CUDA_PLUGIN = Path(ms.__file__).with_name("lib") / "plugin/libmindspore_gpu.so.11.6"  # with CUDA 11.8, too


def start(config):
    """(rank, ranks): sets execution mode, device and seeds, and joins the other ranks. Raises UserError."""
    with explain(ValueError, "context.mode or seed"):
        ms.set_context(mode=config.context.mode)
        ms.set_seed(config.seed)  # numpy's too
    if config.context.save_graphs:
        ms.set_context(save_graphs=True, save_graphs_path="./graphs")
    try:
        ms.set_device(config.context.device_target, config.context.device_id)
    except (RuntimeError, ValueError) as error:
        reason = (config.context.device_target == "GPU" and why_no_gpu()) or str(error).splitlines()[0]
        raise UserError(f"no {config.context.device_target} to run on: {reason}") from None
    if "MS_ROLE" not in os.environ and not config.train.run_distribute:
        return 0, 1
    with explain((RuntimeError, ValueError), "no ranks to join, use the run_distribute_*.sh"):
        init()
    print("rank {} of {} has joined".format(*ranks()))
    ms.set_auto_parallel_context(parallel_mode="data_parallel", gradients_mean=True, device_num=ranks()[1])
    return ranks()


def ranks():
    """(rank of this process, count of ranks): (0, 1) alone."""
    return (get_rank(), get_group_size()) if GlobalComm.INITED else (0, 1)


def all_gather(rows, count):
    """All (count, ...) float rows in order, of which a rank has the numbers rank, rank + ranks, ..."""
    size = ranks()[1]
    share = np.zeros((-(-count // size), *rows.shape[1:]), rows.dtype)
    share[:len(rows)] = rows
    if size > 1:
        bits = ms.Tensor(share.reshape(len(share), -1).view(np.float32))  # a CPU rounds float64
        share = ops.AllGather()(bits).asnumpy().view(rows.dtype).reshape(size, *share.shape).swapaxes(0, 1)
    return share.reshape(-1, *rows.shape[1:])[:count]


class KeptGraph(Callback):
    """Keeps the compiled training step in `folder`, for the same run to start from; on one CPU process whose
    program has the __name__ `name`. MindSpore's compile cache looks at sources alone, and would take an old
    graph when a number of the configuration has changed: here it is one for each hash of all that matters."""

    def __init__(self, config, folder, name):
        self.config, self.folder, self.name = config.to_dict(), Path(folder), name
        self.config.get("train", self.config).pop("resume", None)

    def on_train_step_begin(self, run_context):
        given, own = run_context.original_args(), self.name == "__main__" and ranks()[1] == 1
        on_cpu = (ms.get_context("device_target"), ms.get_context("mode")) == ("CPU", ms.GRAPH_MODE)
        if given.cur_step_num == 1 and own and on_cpu:
            place = self.folder / self.key(given, Path(sys.modules["__main__"].__file__))
            os.environ.update(MS_COMPILER_CACHE_ENABLE="1", MS_COMPILER_CACHE_PATH=str(place))
            if not place.exists() and not any(cells_compile_cache.values()):  # whose thread no child has
                _compile_apart(given.train_network, given.train_dataset_element)
            given.train_network.compile(*given.train_dataset_element)
            del os.environ["MS_COMPILER_CACHE_ENABLE"]

    def key(self, given, script):
        """Hash of configuration, parameters, shapes of a step's data, MS_* variables, version and sources."""
        told = [str(parameter) for parameter in given.train_network.get_parameters()]
        told += [(tensor.shape, str(tensor.dtype)) for tensor in given.train_dataset_element]
        told += sorted(item for item in os.environ.items() if item[0].startswith("MS_"))
        sources = [script, *script.parent.glob("src/*.py"), *Path(__file__).parent.glob("*.py")]
        told += [ms.__version__, self.config, *(source.read_bytes() for source in sorted(sources))]
        return hashlib.sha256(repr(told).encode()).hexdigest()[:32]


def _compile_apart(network, inputs):
    if child := os.fork():  # with it goes what the compiler keeps, up to a fifth of a run's memory
        return os.waitpid(child, 0)
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL), signal.alarm(120)  # ends with this process (PDEATHSIG)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1), os.dup2(1, 2)
        network.compile(*inputs)
    finally:
        os._exit(0)  # an error comes again, and is told, where the parent compiles


def why_no_gpu():
    """Why MindSpore cannot use a GPU in this process, or an empty string."""
    remedy = "pip install -r requirements-gpu.txt, then use the scripts"
    try:
        ctypes.CDLL(CUDA_PLUGIN)
    except OSError as error:
        return f"{error}: {'install the NVIDIA driver' if str(error).startswith(CUDA_DRIVER) else remedy}"
    if not Path(os.environ.get("CUDA_HOME", ""), "bin/nvcc").is_file():
        return f"CUDA_HOME names no folder with bin/nvcc: {remedy}"
    status = ctypes.CDLL(CUDA_DRIVER).cuInit(0)
    return f"the NVIDIA driver finds no GPU that it can use (cuInit: error {status})" if status else ""
