#!/bin/bash
# Evaluate on several devices of this host, one rank each: the log of rank 0 in eval/eval.log, the same number as on one.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../shared_utils/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../shared_utils/common.sh"
distribute_eval "$@"
