#!/bin/bash
# Sourced by the scripts beside it: where the model is, which Python, what the user's paths mean, the log.
model=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python}
if [ -z "${PYTHON:-}" ] && [ -x "$model/../.venv/bin/python" ]; then python=$model/../.venv/bin/python; fi
set -euo pipefail
export PYTHONUNBUFFERED=1

fail_usage() { echo "usage: bash $0 $1" >&2; exit 2; }

# The absolute path of what the user named from where the script was called, or else from the model's folder.
locate() { if [ -e "$1" ]; then realpath -- "$1"; else realpath -m -- "$model/$1"; fi; }

# Run a command in the model's folder and keep what it prints in a log; a terminal keeps its progress bar.
logged() {
    local log=$1
    shift
    cd "$model"
    mkdir -p "$(dirname "$log")"
    if [ -t 2 ]; then "$@" | tee "$log"; else "$@" 2>&1 | tee "$log"; fi
}

# With the nvidia wheels of requirements-gpu.txt, MindSpore's CUDA plugin finds its libraries in them.
if [ -z "${CUDA_HOME:-}" ] && "$python" -c "import nvidia.cudnn" 2>/dev/null; then
    cuda_env=$(cd "$model" && "$python" -m shared_utils.cuda --link "$model/.cuda11")
    eval "$cuda_env"
fi
