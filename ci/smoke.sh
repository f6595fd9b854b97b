#!/bin/bash
# Each model alone: packed into a temporary folder, it trains two steps, evaluates, exports and infers there, far
# from this repository's shared_utils. ci/smoke_MODEL.yaml is its configuration.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
if (($# == 0)); then echo "usage: bash ci/smoke.sh MODEL ..." >&2; exit 2; fi
export PYTHON=$root/.venv/bin/python
unset PYTHONPATH
scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT
cd "$scratch"

smoke() {
    local model=$1 packed=$scratch/$1
    local config=$packed/smoke_config.yaml best=$packed/output/toy/$1-best.ckpt log=eval/eval.log
    "$PYTHON" "$root/ci/pack.py" "$model" "$scratch"
    cp "$root/ci/smoke_$model.yaml" "$config"
    bash "$packed"/scripts/run_standalone_train*.sh "$config"
    if [ "$model" = stnet ]; then
        log=eval.log
        bash "$packed/scripts/run_eval.sh" CPU ../demo/kinetics "$best" "$config"
    else
        bash "$packed/scripts/run_standalone_eval.sh" CPU "$config" "$best"
    fi
    bash "$packed/scripts/run_export.sh" "$config" "$best" MINDIR
    bash "$packed/scripts/run_export.sh" "$config" "$best" ONNX
    bash "$packed/scripts/run_infer.sh" CPU "$config" "$best"
    if [ "$model" = stnet ]; then
        bash "$packed/scripts/run_infer_310.sh" "$packed/stnet.mindir" ../demo/kinetics y 0 "$config"
        grep -q "^top1_correct=" "$packed/acc.log"
    fi
    if ! grep -qs "^trained 2 steps" "$packed/train.log" "$packed/train/train.log"; then echo "error: $model trained no 2 steps" >&2; exit 1; fi
    for file in "$packed"/{"$log",eval/results.json,"$model.mindir","$model.onnx",infer_output/predictions.json*}; do
        if [ ! -s "$file" ]; then echo "error: $model left no $file" >&2; exit 1; fi
    done
    echo "smoke $model ok"
}

"$PYTHON" "$root/ci/synthetic_videos.py" demo/videos --classes 18 --videos 6 --frames 16 --size 24x32
"$PYTHON" "$root/ci/synthetic_videos.py" demo/kinetics --layout kinetics --classes 8 --videos 5 --frames 16 --size 24x32
for model in "$@"; do smoke "$model"; done
