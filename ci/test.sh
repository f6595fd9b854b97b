#!/bin/bash
# Tests of the named parts, each in a process of its own, since every model's package is called src:
# ci/test.sh shared_utils arn ...
set -euo pipefail
cd "$(dirname "$0")/.."
if (($# == 0)); then echo "usage: ci/test.sh shared_utils|MODEL ..." >&2; exit 2; fi
python=$PWD/.venv/bin/python
status=0
for part in "$@"; do
    echo "== $part"
    if [ "$part" = shared_utils ]; then
        "$python" -m pytest -q --durations=8 shared_utils/tests ci/tests || status=1
    else
        (cd "$part" && "$python" -m pytest -q --durations=8 tests) || status=1
    fi
done
exit $status
