#!/bin/bash
# Evaluate on several devices of this host, one rank each: the log of rank 0 in eval/eval.log, the same number as on one.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../shared_utils/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../shared_utils/common.sh"
usage="[NUM_DEVICES] [VISIBLE_DEVICES] [CONFIG] [DATASET] [CHECKPOINT_PATH]"
if (($# < 2 || $# > 5)) || ! [[ $1 =~ ^[1-9][0-9]*$ ]]; then fail_usage "$usage"; fi
options=()
if (($# > 3)); then options+=("--dataset_path=$(locate "$4")"); fi
if (($# > 4)); then options+=("--resume=$(locate "$5")"); fi
ranks eval "$1" "$2" eval.py -c "$(config "${3:-}")" "${options[@]}"
