#!/bin/bash
# Train on several devices of this host, one rank each: the log of rank 0 in train/train.log, checkpoints in train/ckpt.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../shared_utils/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../shared_utils/common.sh"
usage="[NUM_DEVICES] [VISIBLE_DEVICES] [CONFIG] [DATASET] [PRETRAINED_CKPT_PATH](optional)"
if (($# < 2 || $# > 5)) || ! [[ $1 =~ ^[1-9][0-9]*$ ]]; then fail_usage "$usage"; fi
options=()
if (($# > 3)); then options+=("--dataset_path=$(locate "$4")"); fi
if (($# > 4)); then options+=("--pre_res50=$(locate "$5")"); fi
ranks train "$1" "$2" train.py -c "$(config "${3:-}")" --run_distribute=True --checkpoint_path=train/ckpt \
    "${options[@]}"
