"""Why MindSpore's CUDA plugin cannot be used; `python -m shared_utils.cuda` prints where each library is."""
import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

PLUGIN = "libmindspore_gpu.so.11.6"  # the newer of MindSpore's two; the wheels' CUDA 11.8 keeps its interface
DRIVER = "libcuda.so.1"
REMEDY = "pip install -r requirements-gpu.txt, then use the scripts, or source shared_utils/common.sh"


def plugin_libraries():
    """{CUDA library of MindSpore's plugin: its path, or "" where ldd misses it}."""
    plugins = [Path(path, "mindspore/lib/plugin", PLUGIN) for path in sys.path]
    plugin = next(filter(Path.is_file, plugins), None)
    if plugin is None:
        return {PLUGIN: ""}
    listing = subprocess.run(["ldd", plugin], capture_output=True, text=True, check=True).stdout
    found = sorted(re.findall(r"(\S+) => (?:not found|(.+) \()", listing))
    return {name: path for name, path in found if not path or name.startswith(("libcu", "libnv"))}


def why_no_gpu():
    """One line that tells why MindSpore cannot use a GPU in this process, or an empty string."""
    missing = [name for name, path in plugin_libraries().items() if not path]
    if missing == [DRIVER]:
        return f"{DRIVER} not found: install the NVIDIA driver"
    if missing:
        return f"{', '.join(missing)} not found: {REMEDY}"
    if not Path(os.environ.get("CUDA_HOME", ""), "bin/nvcc").is_file():
        return f"CUDA_HOME names no folder with bin/nvcc: {REMEDY}"
    status = ctypes.CDLL(DRIVER).cuInit(0)
    return f"the NVIDIA driver finds no GPU that it can use (cuInit: error {status})" if status else ""


if __name__ == "__main__":
    libraries = plugin_libraries()
    print("\n".join(f"{name}: {path or 'missing'}" for name, path in libraries.items()))
    missing = [name for name, path in libraries.items() if not path and name != DRIVER]
    sys.exit(f"error: {', '.join(missing)} not found: {REMEDY}" if missing else 0)
