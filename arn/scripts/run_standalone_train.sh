#!/bin/bash
# Train on one device; checkpoints go to train.ckpt_path, ./output by default, what is printed to train.log.
# Two folders are taken as the model's folder and the data set.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../shared_utils/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../shared_utils/common.sh"
if (($# > 2)); then fail_usage "[config_file] [pretrained_model]  or  [PROJECT_PATH] [DATA_PATH]"; fi

config=default_config.yaml options=()
if (($# == 2)) && [ -d "$1" ] && [ -d "$2" ]; then
    model=$(locate "$1")
    options+=("--data_loader.train.dataset.path=$(locate "$2")" "--data_loader.eval.dataset.path=$(locate "$2")")
else
    if (($# > 0)); then config=$(locate "$1"); fi
    if (($# > 1)); then options+=("--train.pretrained_model=$(locate "$2")"); fi
fi
logged train.log "$python" train.py -c "$config" "${options[@]}"
