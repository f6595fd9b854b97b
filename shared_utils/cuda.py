"""Let MindSpore's CUDA plugin find the CUDA 11 libraries of the nvidia-*-cu11 wheels, without root.

MindSpore reads CUDA_HOME while it is imported and tries its plugin only when $CUDA_HOME/bin/nvcc tells a
release. The wheels have no nvcc: `link` makes a folder with a stand-in for it beside links to the libraries.
"""

import argparse
import ctypes
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from shared_utils.config import UserError

RELEASE = "11.6"  # the newer of MindSpore's two CUDA plugins; the wheels' CUDA 11.8 keeps its interface
DRIVER = "libcuda.so.1"
NVCC = f'#!/bin/sh\necho "Cuda compilation tools, release {RELEASE}, V{RELEASE}.0"\n'
# MindSpore takes the release from libcudart's file name; cuDNN opens libnvrtc by its bare one.
ALIASES = {f"libcudart.so.{RELEASE}.0": "libcudart.so.11.0", "libnvrtc.so": "libnvrtc.so.11.2"}
REMEDY = 'pip install -r requirements-gpu.txt, then eval "$(python -m shared_utils.cuda --link DIR)"'


def library_folders():
    """Return the library folders of the installed nvidia wheels, sorted."""
    return sorted({str(lib) for path in sys.path for lib in Path(path).glob("nvidia/*/lib")})


def search_path(folders):
    """Return the LD_LIBRARY_PATH value that puts `folders` before what is on it already."""
    return ":".join([*folders, *filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(":"))])


def plugin_libraries(folders=()):
    """Return {CUDA library of MindSpore's plugin: path, "" where ldd misses it}, `folders` searched first."""
    plugins = [Path(path, f"mindspore/lib/plugin/libmindspore_gpu.so.{RELEASE}") for path in sys.path]
    plugin = next(filter(Path.is_file, plugins), None)
    if plugin is None:
        return {f"libmindspore_gpu.so.{RELEASE}": ""}
    env = {**os.environ, "LD_LIBRARY_PATH": search_path(folders)}
    listing = subprocess.run(["ldd", plugin], env=env, capture_output=True, text=True, check=True).stdout
    lines = sorted(re.findall(r"(\S+) => (?:not found|(.+) \()", listing))
    return {name: path for name, path in lines if not path or name.startswith(("libcu", "libnv"))}


def link(folder):
    """Make `folder` a CUDA_HOME; return the environment variables that a GPU run needs."""
    home, folders = Path(folder).absolute(), library_folders()
    if not folders:
        raise UserError("no nvidia-*-cu11 wheel is installed: pip install -r requirements-gpu.txt")
    nvcc = home / "bin/nvcc"
    if home.exists() and any(home.iterdir()) and not (nvcc.is_file() and nvcc.read_text() == NVCC):
        raise UserError(f"{home} holds something else: name a new folder")
    targets = {lib.name: str(lib) for wheel in folders for lib in Path(wheel).glob("lib*.so*")}
    targets.update({alias: targets[name] for alias, name in ALIASES.items() if name in targets})
    nvcc.parent.mkdir(parents=True, exist_ok=True)
    nvcc.write_text(NVCC)
    nvcc.chmod(0o755)
    (home / "lib").mkdir(exist_ok=True)
    for name, target in targets.items():
        fresh = home / f".{name}.{os.getpid()}"
        fresh.symlink_to(target)
        fresh.replace(home / "lib" / name)
    return {"CUDA_HOME": str(home), "LD_LIBRARY_PATH": search_path([str(home / "lib")])}


def why_no_gpu():
    """Return one line telling why MindSpore cannot use a GPU in this process, or an empty string."""
    missing = [name for name, path in plugin_libraries().items() if not path]
    if missing == [DRIVER]:
        return f"{DRIVER} not found: install the NVIDIA driver"
    if missing:
        return f"{', '.join(missing)} not found: {REMEDY}"
    if not Path(os.environ.get("CUDA_HOME", ""), "bin/nvcc").is_file():
        return f"CUDA_HOME names no folder with bin/nvcc: {REMEDY}"
    status = ctypes.CDLL(DRIVER).cuInit(0)
    return f"the NVIDIA driver finds no GPU that it can use (cuInit: error {status})" if status else ""


def main():
    """Print LD_LIBRARY_PATH, or where each library is, or the `export` line of a linked folder."""
    parser = argparse.ArgumentParser(prog="python -m shared_utils.cuda", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="print where each library of the plugin is")
    parser.add_argument("--link", metavar="DIR", help="make DIR a CUDA_HOME and print a line for eval")
    options = parser.parse_args()
    if options.link:
        print("export", *(f"{name}={shlex.quote(value)}" for name, value in link(options.link).items()))
    elif options.check:
        libraries = plugin_libraries(library_folders())
        print("\n".join(f"{name}: {path or 'missing'}" for name, path in libraries.items()))
        missing = [name for name, path in libraries.items() if not path and name != DRIVER]
        if missing:
            raise UserError(f"{', '.join(missing)} not found: {REMEDY}")
    else:
        print(search_path(library_folders()))


if __name__ == "__main__":
    try:
        main()
    except (UserError, OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
