#!/bin/bash
# Evaluate a checkpoint; what is printed goes to eval.log, the last line is accuracy:{'acc':...}.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../shared_utils/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../shared_utils/common.sh"
if (($# > 4)) || ! device "${1:-CPU}"; then fail_usage "[CPU|GPU|Ascend] [DATASET_PATH] [CHECKPOINT_PATH] [CONFIG](optional)"; fi
options=()
if (($# > 0)); then options+=("--target=$1"); fi
if (($# > 1)); then options+=("--dataset_path=$(locate "$2")"); fi
if (($# > 2)); then options+=("--resume=$(locate "$3")"); fi
standalone eval.log "$python" eval.py -c "$(config "${4:-}")" "${options[@]}"
