#!/bin/bash
# Train on one device, which the YAML's `target` names or else is a GPU where there is one; the log is train/train.log.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../shared_utils/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../shared_utils/common.sh"
if (($# > 3)); then fail_usage "[CONFIG] [DATASET] [PRETRAINED_CKPT_PATH](optional)"; fi
options=()
if (($# > 1)); then options+=("--dataset_path=$(locate "$2")"); fi
if (($# > 2)); then options+=("--pre_res50=$(locate "$3")"); fi
standalone train/train.log "$python" train.py -c "$(config "${1:-}")" "${options[@]}"
