#!/bin/bash
# Sourced by each model's scripts: where the model is, which Python, what the user's paths mean, the log, CUDA.
set -euo pipefail
model=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python}
if [ -z "${PYTHON:-}" ] && [ -x "$model/../.venv/bin/python" ]; then python=$model/../.venv/bin/python; fi
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

# With the nvidia wheels of requirements-gpu.txt and no CUDA_HOME, make one. MindSpore reads it while it is
# imported, and tries its plugin only when $CUDA_HOME/bin/nvcc, which the wheels have not, tells a release. It
# takes the release of libcudart from the file's name; cuDNN opens libnvrtc by its bare name.
link_cuda() {
    local home=$model/.cuda11 library link
    mkdir -p "$home/bin" "$home/lib"
    for library in "$1"/*/lib/lib*.so*; do
        link=$home/lib/$(basename "$library")
        [ "$(readlink "$link")" = "$library" ] || ln -sfn "$library" "$link"
    done
    ln -sfn libcudart.so.11.0 "$home/lib/libcudart.so.11.6.0"
    ln -sfn libnvrtc.so.11.2 "$home/lib/libnvrtc.so"
    printf '#!/bin/sh\necho "Cuda compilation tools, release 11.6, V11.6.0"\n' > "$home/bin/nvcc"
    chmod +x "$home/bin/nvcc"
    export CUDA_HOME=$home LD_LIBRARY_PATH=$home/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
}
if [ -z "${CUDA_HOME:-}" ] && wheels=$("$python" -c "import nvidia.cudnn; print(*nvidia.__path__)" 2>/dev/null); then
    link_cuda "$wheels"
fi
