#!/bin/bash
# Export a checkpoint and prove the file equal to the network.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../shared_utils/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../shared_utils/common.sh"
if (($# > 3)); then fail_usage "[config] [load_ckpt] [MINDIR|ONNX|AIR]"; fi
options=()
if (($# > 1)); then options+=("--resume=$(locate "$2")"); fi
if (($# > 2)); then options+=("--file_format=$3"); fi
standalone export.log "$python" export.py -c "$(config "${1:-}")" "${options[@]}"
