#!/bin/bash
# Export a checkpoint and prove the file equal to the network.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../shared_utils/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../shared_utils/common.sh"
export_model "$@"
