#!/bin/bash
# Accuracy of a MINDIR, on an Ascend 310 by MindSpore Lite or else on the CPU: acc.log ends with top1_correct=..., tot=...
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../shared_utils/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../shared_utils/common.sh"
usage="[MINDIR_PATH] [DATA_PATH] [NEED_PREPROCESS](y or n) [DEVICE_ID](optional) [CONFIG](optional)"
if (($# < 3 || $# > 5)) || ! [[ $3 =~ ^[yYnN]$ ]]; then fail_usage "$usage"; fi
options=("--resume=$(locate "$1")" "--device_id=${4:-0}")
if [ -n "$2" ]; then options+=("--dataset_path=$(locate "$2")"); fi
if [[ $3 == [nN] ]]; then options+=(--preprocess=False); fi
standalone acc.log "$python" infer_310.py -c "$(config "${5:-}")" "${options[@]}"
