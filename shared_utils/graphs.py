"""The compiled training step, kept so that a run that starts again need not compile it again."""
import hashlib
import json
import os
import sys
from pathlib import Path

import mindspore as ms
from mindspore.train import Callback

from shared_utils.device import ranks


class KeptGraph(Callback):
    """Keeps the compiled training step in `folder`, and takes it from there when the same run starts again.

    MindSpore's compile cache looks at sources alone, and would train with an old graph when a number of the
    configuration has changed. Here the graph lies in a folder whose name is a hash of all that it depends on,
    and the cache is open for the first step alone. On one CPU process; elsewhere nothing is kept."""

    def __init__(self, config, folder):
        self.config, self.folder, self.compiled = config.to_dict(), Path(folder), False
        self.config.get("train", self.config).pop("resume", None)

    def on_train_step_begin(self, run_context):
        program = getattr(sys.modules["__main__"], "__file__", None)  # MindSpore opens it
        if program and not self.compiled and ms.get_context("device_target") == "CPU" and ranks()[1] == 1:
            place = self.folder / self.key(run_context.original_args())
            os.environ.update(MS_COMPILER_CACHE_ENABLE="1", MS_COMPILER_CACHE_PATH=str(place))

    def on_train_step_end(self, run_context):
        if not self.compiled:
            os.environ.pop("MS_COMPILER_CACHE_ENABLE", None)
        self.compiled = True

    def key(self, given):
        """Hash of the configuration, parameters, shapes of a step's data, sources and MindSpore's version."""
        told = [[parameter.name, parameter.shape, str(parameter.dtype), parameter.requires_grad]
                for parameter in given.train_network.get_parameters()]
        told += [[tensor.shape, str(tensor.dtype)] for tensor in given.train_dataset_element]
        told += [ms.__version__, sorted(item for item in os.environ.items() if item[0].startswith("MS_"))]
        key = hashlib.sha256(json.dumps([told, self.config], sort_keys=True).encode())
        for name, module in sorted(sys.modules.items()):
            source = getattr(module, "__file__", None)
            if source and name.split(".")[0] in ("__main__", "src", "shared_utils"):
                key.update(Path(source).read_bytes())
        return key.hexdigest()[:32]
