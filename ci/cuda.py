"""Where each library of MindSpore's CUDA plugin is found: python ci/cuda.py; status 1 if more than the
driver's is missing. Source shared_utils/common.sh first: it puts the wheels' folders on the path.
"""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from shared_utils.device import CUDA_DRIVER, CUDA_PLUGIN


def main():
    listing = subprocess.run(["ldd", CUDA_PLUGIN], capture_output=True, text=True, check=True).stdout
    rows = sorted(line.split() for line in listing.splitlines() if "=>" in line)
    found = {name: path for name, _, path, *_ in rows if name.startswith(("libcu", "libnv"))}
    for name, path in found.items():
        print(f"{name}: {'missing' if path == 'not' else path}")
    if missing := [name for name, path in found.items() if path == "not" and name != CUDA_DRIVER]:
        sys.exit(f"error: {', '.join(missing)} not found: pip install -r requirements-gpu.txt")


if __name__ == "__main__":
    main()
