#!/bin/bash
# Sourced by each model's scripts: where the model is, which Python, what the user's paths mean, the log, CUDA.
set -euo pipefail
model=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python}
if [ -z "${PYTHON:-}" ] && [ -x "$model/../.venv/bin/python" ]; then python=$model/../.venv/bin/python; fi
export PYTHONUNBUFFERED=1

fail_usage() { echo "usage: bash $0 $1" >&2; exit 2; }

device() { [[ $1 =~ ^(CPU|GPU|Ascend)$ ]]; }  # not a configuration, with which other scripts begin

# The absolute path of what the user named from where the script was called, or else from the model's folder.
locate() { if [ -e "$1" ] || [[ $1 == /* ]]; then realpath -m -- "$1"; else realpath -m -- "$model/$1"; fi; }

# The configuration that the user named, or the model's own: default_config.yaml, or that of the second name.
config() { if [ -n "$1" ]; then locate "$1"; else echo "$model/${2:-default_config.yaml}"; fi; }

# MindSpore warns of each graph that it keeps and takes from its cache (KeptGraph in shared_utils/device.py).
if [ -z "${MS_SUBMODULE_LOG_v:-}" ]; then export MS_SUBMODULE_LOG_v='{PIPELINE:3}'; fi

outliving_tee() { (trap '' HUP INT TERM && exec tee -a "$1"); }  # behind what earlier runs have said

# Run a command in the model's folder and keep what it prints in a log; a terminal keeps its progress bar.
logged() {
    local log=$1
    shift
    cd "$model"
    mkdir -p "$(dirname "$log")"
    # tee outlives what stops the command, which has something to say yet.
    if [ -t 2 ]; then "$@" | outliving_tee "$log"; else "$@" 2>&1 | outliving_tee "$log"; fi
}

# The same for a program of one process, to which a signal to this script goes on: it may save first.
standalone() {
    local log=$1 status=0 program tee
    shift
    cd "$model"
    mkdir -p "$(dirname "$log")"
    exec 4> >(outliving_tee "$log")
    tee=$!
    set -m  # else what is in the background would not see Ctrl-C
    if [ -t 2 ]; then "$@" >&4 4>&- & else "$@" >&4 2>&4 4>&- & fi
    program=$!
    set +m
    trap 'kill -s TERM "$program" 2>/dev/null || true' HUP TERM
    trap 'kill -s INT "$program" 2>/dev/null || true' INT
    while :; do  # a signal ends the waiting, not the program
        wait "$program" && status=0 || status=$?
        if ((status < 129)) || ! kill -0 "$program" 2>/dev/null; then break; fi
    done
    trap - HUP INT TERM
    exec 4>&-
    wait "$tee" || true
    return "$status"
}

# What run_standalone_train.sh does. Two folders are the model's folder and the data set.
standalone_train() {
    if (($# > 2)); then fail_usage "[config_file] [pretrained_model]  or  [PROJECT_PATH] [DATA_PATH]"; fi
    local config=default_config.yaml options=()
    if (($# == 2)) && [ -d "$1" ] && [ -d "$2" ]; then
        model=$(locate "$1")
        options+=("--data_loader.train.dataset.path=$(locate "$2")" "--data_loader.eval.dataset.path=$(locate "$2")")
    else
        if (($# > 0)); then config=$(locate "$1"); fi
        if (($# > 1)); then options+=("${pretrained[@]}" "--train.pretrained_model=$(locate "$2")"); fi
    fi
    standalone train.log "$python" train.py -c "$config" "${options[@]}"
}
pretrained=()  # further flags of a model where a pretrained one is named

# Processes of this script's job with all of these environment variables: NAME=VALUE ...
of_job() {
    local file variable
    # shellcheck disable=SC2013
    for file in $(grep -lsz "^RANKS_OF=$RANKS_OF\$" /proc/[0-9]*/environ); do
        for variable in "$@"; do grep -qsz "^$variable\$" "$file" || continue 2; done
        file=${file#/proc/}
        echo "${file%/environ}"
    done
}

kill_all() { kill -s "$1" "${@:2}" 2>/dev/null || true; }

# Of several hosts, join for each rank of this one that died before it had joined, and die: the scheduler lets the
# other hosts know of a rank that it has lost, but waits ten minutes for one that it has never seen.
join_for_the_dead() {
    local rank joining=() program
    program="import os, mindspore as ms; ms.set_device('CPU'); ms.communication.init(); os.kill(os.getpid(), 9)"
    for ((rank = first; rank < first + count; rank++)); do
        if grep -aqs "^rank $rank of $world has joined" "$folder/worker_$rank.log"; then continue; fi
        MS_ROLE=MS_WORKER MS_NODE_ID=$rank RANK_ID=$rank MS_WORKER_NUM=$world MS_SCHED_HOST=$address \
            MS_SCHED_PORT=$port timeout 30 "$python" -c "$program" >/dev/null 2>&1 &
        joining+=($!)
    done
    if ((${#joining[@]} > 0)); then wait "${joining[@]}" || true; fi
}

# The exit status of msrun as the job $1. It waits for the scheduler, which waits for ten minutes for ranks that died
# before they joined: where no rank of this host is left, the scheduler gets the time to let other hosts know.
wait_for_ranks() {
    local patience=$((world > count ? 120 : 16)) seen=$SECONDS told=0
    while kill -0 "$1" 2>/dev/null; do
        sleep 1 >/dev/null 2>&1 &
        wait $! || true  # a signal may end it early
        if ((stopped > 0 && world == count)); then patience=2
        elif [ -z "$(of_job MS_ROLE=MS_SCHED)" ]; then seen=$SECONDS  # not yet
        fi
        if [ -n "$(of_job MS_ROLE=MS_WORKER)" ]; then seen=$SECONDS; fi
        if ((SECONDS - seen > 3 && world > count && !stopped && !told)); then
            told=1
            join_for_the_dead
        fi
        # shellcheck disable=SC2046
        if ((SECONDS - seen > patience)); then
            if ((stopped > 0)); then kill_all KILL $(of_job); else kill_all KILL $(of_job MS_ROLE=MS_SCHED); fi
        fi
    done
    wait "$1"
}

# Stopped by a signal, rank 0 saves, in training, and ends, and the others with it; the second time all are killed.
stop_ranks() {
    local pids=() pid
    if ((stopped > 0 && SECONDS - since < 3)); then return 0; fi  # one may come twice, to script and group
    trap '' HUP INT TERM  # a second one to the whole group ended the search for rank 0
    if ((stopped == 0)); then
        for pid in $(of_job MS_ROLE=MS_WORKER RANK_ID=0); do  # the rank itself leads a session
            if [ "$(cut -d' ' -f6 "/proc/$pid/stat" 2>/dev/null)" = "$pid" ]; then pids+=("$pid"); fi
        done
    fi
    # shellcheck disable=SC2046
    if ((${#pids[@]} > 0)); then kill_all TERM "${pids[@]}"
    elif ((stopped > 0 || first == 0)); then kill_all KILL $(of_job)
    else echo "rank 0, on another host, is to end the job; once more kills the ranks of this one" >&2
    fi
    stopped=$1 since=$SECONDS
    trap_signals
}

trap_signals() {
    trap 'stop_ranks 129' HUP
    trap 'stop_ranks 130' INT
    trap 'stop_ranks 143' TERM
}

# Run a program on each of the devices of this host, one rank each, and keep the log of rank 0 in FOLDER/FOLDER.log:
# FOLDER COUNT DEVICES(0,1,..) PROGRAM FLAG ... Of several hosts with COUNT each, WORLD_SIZE is the count of all ranks,
# NODE_RANK this host's number from 0, MASTER_ADDR and MASTER_PORT are host 0's.
ranks() {
    local folder=$1 count=$2 devices=$3 world=${WORLD_SIZE:-$2} address=${MASTER_ADDR:-127.0.0.1} port=${MASTER_PORT:-8118}
    local first bin rank job status=0 stopped=0 since=0 bind=() session=()
    shift 3
    if (($(tr ',' '\n' <<<"$devices" | grep -c .) != count)); then
        echo "error: $count devices, but VISIBLE_DEVICES names $devices" >&2
        exit 2
    fi
    if ((world % count || (world > count && ${NODE_RANK:--1} < 0) || ${NODE_RANK:-0} >= world / count)); then
        echo "error: $count ranks a host cannot be WORLD_SIZE=$world with NODE_RANK=${NODE_RANK:-}" >&2
        exit 2
    fi
    first=$((${NODE_RANK:-0} * count))
    if ((first == 0)) && (exec 3<>"/dev/tcp/$address/$port") 2>/dev/null; then
        echo "error: port $port of $address is in use, perhaps by another job: set MASTER_PORT to a free one" >&2
        exit 2
    fi
    cd "$model"
    bin=$(dirname "$(command -v "$python")")  # msrun starts the ranks by `python`
    export CUDA_VISIBLE_DEVICES=$devices ASCEND_RT_VISIBLE_DEVICES=$devices RANKS_OF=$$-$RANDOM
    export MS_NODE_TIMEOUT=${MS_NODE_TIMEOUT:-15}  # seconds until a host is given up, of 30
    # Each rank to cores of its own: on one host they would take them from each other.
    if ((count > 1)) && command -v taskset >/dev/null; then bind=(--bind_core=True); fi
    if command -v setsid >/dev/null; then session=(setsid); fi  # Ctrl-C is for this script, msrun would kill at once
    trap_signals
    {
        trap : HUP TERM  # this shell waits for the log's last words
        logged "$folder/$folder.log" env PATH="$bin:$PATH" "${session[@]}" msrun --worker_num="$world" \
            --local_worker_num="$count" --master_addr="$address" --master_port="$port" --node_rank="${NODE_RANK:-0}" \
            --log_dir="$folder" --join=True --tail_worker_log="$first" "${bind[@]}" "$@"
    } &
    job=$!
    wait_for_ranks "$job" || status=$?
    # shellcheck disable=SC2046
    kill_all KILL $(of_job MS_ROLE=MS_WORKER) $(of_job MS_ROLE=MS_SCHED)  # of an msrun that was killed
    if ((stopped > 0)); then
        echo "stopped; what each rank said is in $model/$folder/worker_*.log" >&2
        exit "$stopped"
    fi
    if ((status == 0)); then return; fi
    for ((rank = first; rank < first + count; rank++)); do  # msrun tells which process ended first, not why
        tail -n 400 "$folder/worker_$rank.log" 2>/dev/null | grep -a '^error: ' | sed "s/^error: /error: rank $rank: /" || true
    done | tee -ia "$folder/$folder.log" >&2
    if ((first > 0)); then join_for_the_dead; fi
    echo "error: the job has ended; what each rank said is in $model/$folder/worker_*.log" >&2
    exit $status
}

# What run_distribute_train.sh does.
distribute_train() {
    local usage="[DEVICE_NUM] [VISIBLE_DEVICES(0,1,..)] [config_file] [pretrained_model]" options=()
    if (($# < 2 || $# > 4)) || ! [[ $1 =~ ^[1-9][0-9]*$ ]]; then fail_usage "$usage"; fi
    if (($# > 3)); then options+=("${pretrained[@]}" "--train.pretrained_model=$(locate "$4")"); fi
    ranks train "$1" "$2" train.py -c "$(config "${3:-}")" --train.run_distribute=True \
        --train.ckpt_path=train/ckpt "${options[@]}"
}

# What run_distribute_eval.sh does.
distribute_eval() {
    local usage="[DEVICE_NUM] [VISIBLE_DEVICES(0,1,..)] [config] [load_ckpt] [dataset_dir]" options=()
    if (($# < 2 || $# > 5)) || ! [[ $1 =~ ^[1-9][0-9]*$ ]]; then fail_usage "$usage"; fi
    if (($# > 3)); then options+=("--eval.pretrained_model=$(locate "$4")"); fi
    if (($# > 4)); then options+=("--data_loader.eval.dataset.path=$(locate "$5")"); fi
    ranks eval "$1" "$2" eval.py -c "$(config "${3:-}")" "${options[@]}"
}

# What run_standalone_eval.sh does.
standalone_eval() {
    if (($# > 4)) || ! device "${1:-CPU}"; then fail_usage "[CPU|GPU|Ascend] [config] [load_ckpt] [dataset_dir]"; fi
    local options=()
    if (($# > 0)); then options+=("--context.device_target=$1"); fi
    if (($# > 2)); then options+=("--eval.pretrained_model=$(locate "$3")"); fi
    if (($# > 3)); then options+=("--data_loader.eval.dataset.path=$(locate "$4")"); fi
    standalone eval/eval.log "$python" eval.py -c "$(config "${2:-}")" "${options[@]}"
}

# What run_infer.sh does.
infer() {
    if (($# > 4)) || ! device "${1:-CPU}"; then fail_usage "[CPU|GPU|Ascend] [config] [load_ckpt] [video or folder]"; fi
    local options=()
    if (($# > 0)); then options+=("--context.device_target=$1"); fi
    if (($# > 2)); then options+=("--infer.pretrained_model=$(locate "$3")"); fi
    if (($# > 3)); then options+=("--infer.image_path=$(locate "$4")"); fi
    standalone infer_output/infer.log "$python" infer.py -c "$(config "${2:-}")" "${options[@]}"
}

# What run_export.sh does.
export_model() {
    if (($# > 3)); then fail_usage "[config] [load_ckpt] [MINDIR|ONNX|AIR]"; fi
    local options=()
    if (($# > 1)); then options+=("--export.pretrained_model=$(locate "$2")"); fi
    if (($# > 2)); then options+=("--export.file_format=$3"); fi
    standalone export.log "$python" export.py -c "$(config "${1:-}")" "${options[@]}"
}

# With the nvidia wheels of requirements-gpu.txt and no CUDA_HOME, make one. MindSpore reads it while it is
# imported, and tries its plugin only when $CUDA_HOME/bin/nvcc, which the wheels have not, tells a release. It
# takes the release of libcudart from the file's name; cuDNN opens libnvrtc by its bare name.
link_cuda() {
    local home=$model/.cuda11 library link
    mkdir -p "$home/bin" "$home/lib"
    for library in "$1"/*/lib/lib*.so*; do
        link=$home/lib/$(basename "$library")
        [ "$(readlink "$link")" = "$library" ] || ln -sfn "$library" "$link"
    done
    ln -sfn libcudart.so.11.0 "$home/lib/libcudart.so.11.6.0"
    ln -sfn libnvrtc.so.11.2 "$home/lib/libnvrtc.so"
    printf '#!/bin/sh\necho "Cuda compilation tools, release 11.6, V11.6.0"\n' > "$home/bin/nvcc"
    chmod +x "$home/bin/nvcc"
    export CUDA_HOME=$home LD_LIBRARY_PATH=$home/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
}
if [ -z "${CUDA_HOME:-}" ] && wheels=$("$python" -c "import nvidia.cudnn; print(*nvidia.__path__)" 2>/dev/null); then
    link_cuda "$wheels"
fi
