#!/usr/bin/env bash
# Written by `hfscale slurm`. It needs nothing but Slurm and the environment below: sbatch takes it as it is, from the
# folder that it was written for.
# shellcheck disable=SC2016,SC2317,SC2329 # words in quotes stay as they are; traps and srun call functions
# what squeue calls it
#SBATCH --job-name=finetune_bert
# how many nodes
#SBATCH --nodes=2
# one task per node, which starts the node's processes
#SBATCH --ntasks-per-node=1
# tell this script, so many seconds before the time limit
#SBATCH --signal=B:USR1@300
# start again after a preemption or the loss of a node
#SBATCH --requeue
# the log of a second start goes on in the same file
#SBATCH --open-mode=append
# what this script says, in a folder that has to be there; the nodes have logs beside it
#SBATCH --output=runs/tickets/slurm/job.log

# The run folder, and what one run of an array has of its own.
choose_run() {
    run=runs/tickets
    more=()
}
export -f choose_run
choose_run
processes=2
# The last task of an array has the array's own number, which means all of its tasks.
job=$SLURM_JOB_ID
# Each start has its own folder for how its processes ended: an earlier one may live on, on a lost node.
export HFSCALE_ENDED=$run/slurm/ended/$job.${SLURM_RESTART_COUNT:-0}
mkdir -p -- "$HFSCALE_ENDED"
# The first node of the job, and a port that no other job of the node has.
HEAD_NODE=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
HEAD_PORT=$((12000 + SLURM_JOB_ID % 20000))
export HEAD_NODE HEAD_PORT

# Runs once on each node. The launcher would die of USR1, and ignores it; the processes hear it themselves.
on_node() {
    trap '' USR1
    trap : TERM
    choose_run
    accelerate launch \
        --multi_gpu --mixed_precision no --dynamo_backend no \
        --num_machines 2 --num_processes 2 \
        --machine_rank "$SLURM_NODEID" --main_process_ip "$HEAD_NODE" --main_process_port "$HEAD_PORT" \
        recipes/finetune_bert.py \
        --train.output_dir runs/tickets \
        "${more[@]}"
    local code=$? rank said
    # A node whose processes were told to stop, or lost another, has not failed: srun must not kill others.
    for ((rank = SLURM_NODEID * 1; rank < (SLURM_NODEID + 1) * 1; rank++)); do
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
    --cpu-bind=cores \
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
