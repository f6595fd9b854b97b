#!/bin/bash
# Tests of the named parts, each in a process of its own, since every model's package is called src:
# ci/test.sh shared_utils arn ...
# Several parts run two at a time, for most of a test is compiling, on one core; each is shown when it ends.
set -euo pipefail
cd "$(dirname "$0")/.."
if (($# == 0)); then echo "usage: ci/test.sh shared_utils|MODEL ..." >&2; exit 2; fi
if (($# > 1)); then
    # shellcheck disable=SC2016
    each='told=$(bash "$0" "$1" 2>&1); status=$?; echo "$told"; exit $status'
    printf '%s\n' "$@" | xargs -P 2 -n 1 bash -c "$each" "ci/test.sh"
    exit
fi
python=$PWD/.venv/bin/python
echo "== $1"
if [ "$1" = shared_utils ]; then
    exec "$python" -m pytest -q --durations=8 shared_utils/tests ci/tests
fi
cd "$1"
exec "$python" -m pytest -q --durations=8 tests
