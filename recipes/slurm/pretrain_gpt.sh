#!/usr/bin/env bash
# Written by `hfscale slurm`. It needs nothing but Slurm and the environment below: sbatch takes it as it is, from the
# folder that it was written for.
# shellcheck disable=SC2016,SC2317,SC2329 # words in quotes stay as they are; traps and srun call functions
# what squeue calls it
#SBATCH --job-name=pretrain_gpt
# where it runs
#SBATCH --partition=main
# what it is booked on
#SBATCH --account=my-project
# how many nodes
#SBATCH --nodes=4
# one task per node, which starts the node's processes
#SBATCH --ntasks-per-node=1
# GPUs of each node
#SBATCH --gpus-per-node=8
# CPUs of each node
#SBATCH --cpus-per-task=64
# memory of each node
#SBATCH --mem=480G
# time limit of one start; the run may have many
#SBATCH --time=12:00:00
# tell this script, so many seconds before the time limit
#SBATCH --signal=B:USR1@300
# start again after a preemption or the loss of a node
#SBATCH --requeue
# the log of a second start goes on in the same file
#SBATCH --open-mode=append
# what this script says, in a folder that has to be there; the nodes have logs beside it
#SBATCH --output=runs/gpt/slurm/job.log

# The run folder, and what one run of an array has of its own.
choose_run() {
    run=runs/gpt
    more=()
}
export -f choose_run
choose_run
processes=32
# The last task of an array has the array's own number, which means all of its tasks.
job=$SLURM_JOB_ID
# Each start has its own folder for how its processes ended: an earlier one may live on, on a lost node.
export HFSCALE_ENDED=$run/slurm/ended/$job.${SLURM_RESTART_COUNT:-0}
mkdir -p -- "$HFSCALE_ENDED"
# The first node of the job, and a port that no other job of the node has.
HEAD_NODE=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
HEAD_PORT=$((12000 + SLURM_JOB_ID % 20000))
export HEAD_NODE HEAD_PORT

# Modules come with the variables that srun hands on.
module load cuda/12.8 || exit 2
# The environment that hfscale is installed in.
# shellcheck source=/dev/null
source .venv/bin/activate || exit 2
export HF_HUB_OFFLINE=1

# Runs once on each node. The launcher would die of USR1, and ignores it; the processes hear it themselves.
on_node() {
    trap '' USR1
    trap : TERM
    choose_run
    export TMPDIR=/tmp/$SLURM_JOB_ID
    mkdir -p -- "$TMPDIR"
    accelerate launch \
        --multi_gpu --mixed_precision no --dynamo_backend no \
        --num_machines 4 --num_processes 32 \
        --machine_rank "$SLURM_NODEID" --main_process_ip "$HEAD_NODE" --main_process_port "$HEAD_PORT" \
        recipes/pretrain_gpt.py \
        --config recipes/configs/pretrain_gpt/gpt2_small.yaml \
        --train.output_dir runs/gpt \
        "${more[@]}"
    local code=$? rank said
    rm -rf -- "$TMPDIR"
    # A node whose processes were told to stop, or lost another, has not failed: srun must not kill others.
    for ((rank = SLURM_NODEID * 8; rank < (SLURM_NODEID + 1) * 8; rank++)); do
        read -r said 2>/dev/null <"$HFSCALE_ENDED/$rank" || return "$code"
        [[ $said == 0 || $said == 75 || $said == lost ]] || return "$code"
    done
    return 0
}
export -f on_node

step=0
# Say it again until the run has ended: a process that is still importing can't hear it yet.
forward() {
    while kill -0 "$step" 2>/dev/null; do
        scancel --signal=USR1 "$job"
        sleep 5
    done &
}
trap 'forward USR1' USR1
trap 'forward TERM' TERM

srun --kill-on-bad-exit=1 --open-mode=append \
    --output="${run//%/%%}/slurm/node-%t.log" \
    --cpus-per-task="$SLURM_CPUS_PER_TASK" --cpu-bind=cores --gpu-bind=none \
    bash -c on_node &
step=$!

# Bash runs a trap only between commands; `wait` ends early at each signal, and once more tells how srun itself ended.
while kill -0 "$step" 2>/dev/null; do wait "$step"; done
wait "$step"
code=$?

# What the processes said: 75 is "saved, start me again", lost is "another process of this run has ended".
asked=no lost=no answers=0
for file in "$HFSCALE_ENDED"/*; do
    [[ -f $file ]] || continue
    answers=$((answers + 1))
    read -r said <"$file"
    case $said in
        0) ;;
        75) asked=yes ;;
        lost) lost=yes ;;
        *) exit "${said:-1}" ;;
    esac
done
if [[ $asked == no || $answers -ne $processes ]]; then
    # Done, or a process was killed.
    [[ $code -eq 0 && ($asked == yes || $lost == yes) ]] && code=1
    exit "$code"
fi

# Back into the queue, unless somebody cancelled the job or Slurm is about to do the same by itself.
state=$(squeue --noheader --jobs="$job" --format=%T)
if [[ $state == RUNNING ]]; then
    if [[ ${SLURM_RESTART_COUNT:-0} -ge 100 ]]; then
        echo "not started again: it has been 100 times" >&2
    else
        scontrol requeue "$job" && sleep 60 # Slurm ends this script
    fi
fi
exit 75
