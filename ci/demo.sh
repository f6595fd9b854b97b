#!/bin/bash
# Synthetic videos, training, evaluation on what training never saw, and GIFs in demo/MODEL: bash ci/demo.sh MODEL
# Running it again goes on where it stopped. ci/demo_MODEL.yaml is its configuration.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
if (($# != 1)); then echo "usage: bash ci/demo.sh MODEL" >&2; exit 2; fi
model=$1 config=$root/ci/demo_$1.yaml
if [ ! -f "$config" ]; then echo "error: no demo of a model $model: $config is missing" >&2; exit 1; fi
scripts=$root/$model/scripts best=$root/$model/output/demo/$model-best.ckpt
export PYTHON=$root/.venv/bin/python
cd "$root"

echo "== 1/4 synthetic videos in demo/videos"
"$PYTHON" ci/synthetic_videos.py demo/videos
echo "== 2/4 training; stopped with Ctrl-C, it goes on the next time"
bash "$scripts/run_standalone_train.sh" "$config"
echo "== 3/4 evaluation on classes never seen"
bash "$scripts/run_standalone_eval.sh" CPU "$config" "$best"
echo "== 4/4 predictions"
bash "$scripts/run_infer.sh" CPU "$config" "$best"

echo
echo "$model was trained on videos of moving shapes, and then judged on motions that were not among its training"
echo "classes; the share of right answers, with its 95% interval (5-way by chance: 20 %):"
grep -- "-shot: " "$model/eval/eval.log"
echo "GIFs that show each query with the predicted class, the score and the truth are in demo/$model:"
ls "demo/$model"/*.gif
