#!/bin/bash
# Synthetic videos, training, evaluation on what training never saw, and GIFs in demo/MODEL: bash ci/demo.sh MODEL
# Running it again goes on where it stopped. ci/demo_MODEL.yaml is its configuration.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
if (($# != 1)); then echo "usage: bash ci/demo.sh MODEL" >&2; exit 2; fi
model=$1 config=$root/ci/demo_$1.yaml
if [ ! -f "$config" ]; then echo "error: no demo of a model $model: $config is missing" >&2; exit 1; fi
scripts=$root/$model/scripts
export PYTHON=$root/.venv/bin/python
cd "$root"

train() {
    echo "== 2/4 training; stopped with Ctrl-C, it goes on the next time"
    bash "$scripts"/run_standalone_train*.sh "$config"
    best=
    for file in "$root/$model/output/demo/$model"*-best.ckpt; do
        if [ -z "$best" ] || [ "$file" -nt "$best" ]; then best=$file; fi
    done
}

few_shot() {
    echo "== 1/4 synthetic videos in demo/videos"
    "$PYTHON" ci/synthetic_videos.py demo/videos
    train
    echo "== 3/4 evaluation on classes never seen"
    bash "$scripts/run_standalone_eval.sh" CPU "$config" "$best"
    echo "== 4/4 predictions"
    bash "$scripts/run_infer.sh" CPU "$config" "$best"

    echo
    echo "$model was trained on videos of moving shapes, and then judged on motions that were not among its training"
    echo "classes; the share of right answers, with its 95% interval (5-way by chance: 20 %):"
    grep -- "-shot: " "$model/eval/eval.log"
    echo "GIFs that show each query with the predicted class, the score and the truth are in demo/$model:"
}

# A video of each class, in the order of the classes.
test_videos() {
    awk -F, -v folder="$root/demo/kinetics/test" \
        'NR > 1 && !seen[$1]++ {printf "%s/%s_%06d_%06d.mp4\n", folder, $2, $3, $4}' demo/kinetics/kinetics-400_test.csv
}

# The flags of the checkpoint and of the split.
classifier() {
    echo "== 1/4 synthetic videos in demo/kinetics"
    "$PYTHON" ci/synthetic_videos.py demo/kinetics --layout kinetics --classes 8 --videos 100
    train
    echo "== 3/4 evaluation on videos never seen"
    mkdir -p "demo/$model"
    # Training chose its best epoch by the split val, so that eval.py is to take test.
    (cd "$model" && "$PYTHON" eval.py -c "$config" "$1=$best" "$2=test") | tee "demo/$model/eval.log"
    echo "== 4/4 predictions"
    test_videos >"demo/$model/videos.txt"
    bash "$scripts/run_infer.sh" CPU "$config" "$best"

    echo
    echo "$model was trained on videos of eight motions of shapes, and then judged on test videos that neither its"
    echo "training nor the choice of its best epoch saw (by chance the first guess is right for 12.5 %):"
    tail -n 1 "demo/$model/eval.log"
    echo "GIFs that show a test video of each motion, in alphabetical order of the true motions, with the two first"
    echo "guesses and their scores, are in demo/$model:"
}

case $model in
    arn) few_shot ;;
    stnet) classifier --resume --eval_split ;;
    *) classifier --eval.pretrained_model --data_loader.eval.dataset.split ;;
esac
ls "demo/$model"/*.gif
