#!/bin/bash
# Evaluate a checkpoint; what is printed goes to eval/eval.log, the results to eval.output_dir.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../shared_utils/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../shared_utils/common.sh"
if (($# > 4)); then fail_usage "[device] [config] [load_ckpt] [dataset_dir]"; fi

options=()
if (($# > 0)); then options+=("--context.device_target=$1"); fi
if (($# > 2)); then options+=("--eval.pretrained_model=$(locate "$3")"); fi
if (($# > 3)); then options+=("--data_loader.eval.dataset.path=$(locate "$4")"); fi
logged eval/eval.log "$python" eval.py -c "$(locate "${2:-default_config.yaml}")" "${options[@]}"
