#!/bin/bash
# Train on the Ascends of a rank table: the log of rank 0 in train/train.log, checkpoints in train/ckpt.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../shared_utils/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../shared_utils/common.sh"
if (($# < 2 || $# > 4)); then
    fail_usage "[DATASET_PATH] [rank_table_PATH] [PRETRAINED_CKPT_PATH](optional) [CONFIG](optional)"
fi
RANK_TABLE_FILE=$(locate "$2")
export RANK_TABLE_FILE
if [ ! -f "$RANK_TABLE_FILE" ]; then echo "error: no rank table at $2" >&2; exit 2; fi
devices=$(grep -o '"device_id"[^,}]*' "$RANK_TABLE_FILE" | grep -o '[0-9]\+' | paste -sd,)
options=(--target=Ascend --run_distribute=True --checkpoint_path=train/ckpt "--dataset_path=$(locate "$1")")
if (($# > 2)); then options+=("--pre_res50=$(locate "$3")"); fi
ranks train "$(tr ',' '\n' <<<"$devices" | grep -c .)" "$devices" train.py -c "$(config "${4:-}" kinetics400.yaml)" "${options[@]}"
