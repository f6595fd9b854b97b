#!/bin/bash
# Top-5 predictions of a video, a folder of videos or a .txt list: predictions.jsonl, GIFs, infer.log in infer_output.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../shared_utils/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../shared_utils/common.sh"
infer "$@"
