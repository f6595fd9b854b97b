#!/bin/bash
# Train on several devices of this host, one rank each: the log of rank 0 in train/train.log, checkpoints in train/ckpt.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../shared_utils/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../shared_utils/common.sh"
usage="[DEVICE_NUM] [VISIBLE_DEVICES(0,1,..)] [config_file] [pretrained_model]"
if (($# < 2 || $# > 4)) || ! [[ $1 =~ ^[1-9][0-9]*$ ]]; then fail_usage "$usage"; fi
if (($(tr ',' '\n' <<<"$2" | grep -c .) != $1)); then
    echo "error: $1 devices, but VISIBLE_DEVICES names $2" >&2
    exit 2
fi

bin=$(dirname "$(command -v "$python")")  # msrun starts the ranks by `python`
export CUDA_VISIBLE_DEVICES=$2 ASCEND_RT_VISIBLE_DEVICES=$2
config=$(locate "${3:-default_config.yaml}") options=()
if (($# > 3)); then options+=("--train.pretrained_model=$(locate "$4")"); fi
logged train/train.log env PATH="$bin:$PATH" msrun --worker_num="$1" --local_worker_num="$1" \
    --master_port="${MASTER_PORT:-8118}" --log_dir=train --join=True --tail_worker_log=0 \
    train.py -c "$config" --train.run_distribute=True --train.ckpt_path=train/ckpt "${options[@]}"
