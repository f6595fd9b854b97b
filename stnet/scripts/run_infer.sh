#!/bin/bash
# Top-5 predictions of a video, a folder of videos or a .txt list: predictions.jsonl, GIFs, infer.log in infer_output.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../shared_utils/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../shared_utils/common.sh"
if (($# > 4)) || ! device "${1:-CPU}"; then fail_usage "[CPU|GPU|Ascend] [config] [load_ckpt] [video or folder]"; fi
options=()
if (($# > 0)); then options+=("--target=$1"); fi
if (($# > 2)); then options+=("--resume=$(locate "$3")"); fi
if (($# > 3)); then options+=("--image_path=$(locate "$4")"); fi
standalone infer_output/infer.log "$python" infer.py -c "$(config "${2:-}")" "${options[@]}"
