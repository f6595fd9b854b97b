#!/bin/bash
# Classify the queries of a folder with support/<class>/* and query/*, or of an episode drawn from the data set.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../shared_utils/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../shared_utils/common.sh"
if (($# > 4)); then fail_usage "[device] [config] [load_ckpt] [folder]"; fi

options=()
if (($# > 0)); then options+=("--context.device_target=$1"); fi
if (($# > 2)); then options+=("--infer.pretrained_model=$(locate "$3")"); fi
if (($# > 3)); then options+=("--infer.image_path=$(locate "$4")"); fi
logged infer_output/infer.log "$python" infer.py -c "$(locate "${2:-default_config.yaml}")" "${options[@]}"
