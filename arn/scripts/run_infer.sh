#!/bin/bash
# Classify the queries of a folder with support/<class>/* and query/*, or of an episode drawn from the data set.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../shared_utils/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../shared_utils/common.sh"
infer "$@"
