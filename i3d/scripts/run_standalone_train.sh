#!/bin/bash
# Train on one device; checkpoints go to train.ckpt_path, ./output by default, what is printed to train.log.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../shared_utils/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../shared_utils/common.sh"
# shellcheck disable=SC2034
pretrained=(--train.pre_trained=True)
standalone_train "$@"
