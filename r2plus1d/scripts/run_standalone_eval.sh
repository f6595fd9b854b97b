#!/bin/bash
# Evaluate a checkpoint; what is printed goes to eval/eval.log, the results to eval.output_dir.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../shared_utils/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../shared_utils/common.sh"
standalone_eval "$@"
