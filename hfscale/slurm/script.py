"""The batch script: a pure function from settings to text.

How a run ends reaches the script through files: `accelerate launch` turns every exit status but 0 into 1, so each
process leaves its own in the folder `$HFSCALE_ENDED` (see `hfscale.errors.one_line`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from hfscale.schemas.slurm import ClusterSettings, JobSettings

_HEAD = """\
#!/usr/bin/env bash
# Written by `hfscale slurm`. It needs nothing but Slurm and the environment below: sbatch takes it as it is, from the
# folder that it was written for.
# shellcheck disable=SC2016,SC2317,SC2329 # words in quotes stay as they are; traps and srun call functions"""

_FORWARD = """\
# Say it again until the run has ended: a process that is still importing can't hear it yet.
forward() {
    while kill -0 "$step" 2>/dev/null; do
        scancel --signal=USR1 "$job"
        sleep 5
    done &
}
trap 'forward USR1' USR1
trap 'forward TERM' TERM"""

_WAIT = """\
step=$!

# Bash runs a trap only between commands; `wait` ends early at each signal, and once more tells how srun itself ended.
while kill -0 "$step" 2>/dev/null; do wait "$step"; done
wait "$step"
code=$?"""

_END = """\
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
fi"""

_REQUEUE = """\
# Back into the queue, unless somebody cancelled the job or Slurm is about to do the same by itself.
state=$(squeue --noheader --jobs="$job" --format=%T)
if [[ $state == RUNNING ]]; then
    if [[ ${{SLURM_RESTART_COUNT:-0}} -ge {max_restarts} ]]; then
        echo "not started again: it has been {max_restarts} times" >&2
    else
        scontrol requeue "$job" && sleep 60 # Slurm ends this script
    fi
fi
exit 75"""


def render(cluster: ClusterSettings, job: JobSettings) -> str:
    """The text of the batch script, ending in a line break; the same text for the same settings."""
    blocks = [
        "\n".join([_HEAD, *_directives(cluster, job)]),
        "\n".join(_where(job)),
        "\n".join(environment(cluster)),
        "\n".join(_on_a_node(cluster, job)),
        "step=0\n" + _FORWARD,
        f"{_srun(cluster, job)} &\n{_WAIT}",
        _END,
        _REQUEUE.format(max_restarts=cluster.max_restarts),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _directives(cluster: ClusterSettings, job: JobSettings) -> Iterator[str]:
    gpus = f"{cluster.gpu_type}:{job.gpus_per_node}" if cluster.gpu_type else job.gpus_per_node
    array = f"0-{len(job.tasks) - 1}" + (f"%{job.at_once}" if job.at_once else "") if job.tasks else None
    log = job.run_folder.replace("%", "%%") + ("/slurm/job-%A_%a.log" if job.tasks else "/slurm/job.log")
    lines = [
        ("what squeue calls it", "job-name", job.name),
        ("one run for each number", "array", array),
        ("where it runs", "partition", cluster.partition),
        ("what it is booked on", "account", cluster.account),
        ("its priority and limits", "qos", cluster.qos),
        ("what the nodes must have", "constraint", cluster.constraint),
        ("how many nodes", "nodes", job.nodes),
        ("one task per node, which starts the node's processes", "ntasks-per-node", 1),
        ("GPUs of each node", "gpus-per-node", gpus if job.gpus_per_node else None),
        ("CPUs of each node", "cpus-per-task", cluster.cpus_per_node),
        ("memory of each node", "mem", cluster.memory_per_node),
        ("time limit of one start; the run may have many", "time", job.time),
        ("tell this script, so many seconds before the time limit", "signal", f"B:USR1@{cluster.warn_seconds}"),
        ("start again after a preemption or the loss of a node", "requeue", True),
        ("the log of a second start goes on in the same file", "open-mode", "append"),
        ("what this script says, in a folder that has to be there; the nodes have logs beside it", "output", log),
    ]
    for why, name, value in lines:
        if value is not None:
            yield f"# {why}"
            yield f"#SBATCH --{name}" + ("" if value is True else f"={_directive(value)}")


def _directive(value: object) -> str:
    text = str(value)
    plain = shlex.quote(text) == text or all(character.isalnum() or character in "-_./:@%=," for character in text)
    return text if plain else '"' + text.replace("\\", "\\\\") + '"'


def _where(job: JobSettings) -> Iterator[str]:
    yield "# The run folder, and what one run of an array has of its own."
    yield "choose_run() {"
    if job.tasks:
        yield "    case $SLURM_ARRAY_TASK_ID in"
        for number, (name, words) in enumerate(job.tasks.items()):
            folder = shlex.quote(job.folder(name))
            yield f"        {number})"
            yield f"            run={folder}"
            yield f"            more=({shlex.join([*words, '--train.output_dir', job.folder(name)])})"
            yield "            ;;"
        yield "    esac"
    else:
        yield f"    run={shlex.quote(job.run_folder)}"
        yield "    more=()"
    yield "}"
    yield "export -f choose_run"
    yield "choose_run"
    yield f"processes={job.nodes * job.processes}"
    yield "# The last task of an array has the array's own number, which means all of its tasks."
    yield f"job={'${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID' if job.tasks else '$SLURM_JOB_ID'}"
    yield "# Each start has its own folder for how its processes ended: an earlier one may live on, on a lost node."
    yield "export HFSCALE_ENDED=$run/slurm/ended/$job.${SLURM_RESTART_COUNT:-0}"
    yield 'mkdir -p -- "$HFSCALE_ENDED"'
    yield "# The first node of the job, and a port that no other job of the node has."
    yield 'HEAD_NODE=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)'
    yield "HEAD_PORT=$((12000 + SLURM_JOB_ID % 20000))"
    yield "export HEAD_NODE HEAD_PORT"


def environment(cluster: ClusterSettings) -> Iterator[str]:
    """Lines that set up what a run needs, in the batch script and for a trial on a node."""
    if cluster.modules:
        yield "# Modules come with the variables that srun hands on."
        yield f"module load {shlex.join(cluster.modules)} || exit 2"
    if cluster.venv:
        yield "# The environment that hfscale is installed in."
        yield "# shellcheck source=/dev/null"
        yield f"source {_expanded(cluster.venv.rstrip('/') + '/bin/activate')} || exit 2"
    for variable in cluster.variables or []:
        name, _, value = variable.partition("=")
        yield f"export {name}={_expanded(value)}"


def _expanded(text: str) -> str:
    """A word in which a node fills in `~/` and `$NAME`, and nothing else."""
    begin, text = ("~/", text[2:]) if text.startswith("~/") else ("", text)
    parts = re.split(r"(\$(?:\w+|\{\w+\}))", text)  # every second one is a name
    return begin + (
        "".join(f'"{part}"' if i % 2 else shlex.quote(part) for i, part in enumerate(parts) if part) or "''"
    )


def _on_a_node(cluster: ClusterSettings, job: JobSettings) -> Iterator[str]:
    processes = job.processes
    yield "# Runs once on each node. The launcher would die of USR1, and ignores it; the processes hear it themselves."
    yield "on_node() {"
    yield "    trap '' USR1"
    yield "    trap : TERM"
    yield "    choose_run"
    if cluster.scratch:
        yield f"    export TMPDIR={_expanded(cluster.scratch.rstrip('/'))}/$SLURM_JOB_ID"
        yield '    mkdir -p -- "$TMPDIR"'
    words = list(_launcher(job))
    yield "    accelerate launch \\"
    for line in [*words, *(shlex.join(part) for part in _parts(job.command))]:
        yield f"        {line} \\"
    yield '        "${more[@]}"'
    yield "    local code=$? rank said"
    if cluster.scratch:
        yield '    rm -rf -- "$TMPDIR"'
    yield "    # A node whose processes were told to stop, or lost another, has not failed: srun must not kill others."
    yield f"    for ((rank = SLURM_NODEID * {processes}; rank < (SLURM_NODEID + 1) * {processes}; rank++)); do"
    yield '        read -r said 2>/dev/null <"$HFSCALE_ENDED/$rank" || return "$code"'
    yield '        [[ $said == 0 || $said == 75 || $said == lost ]] || return "$code"'
    yield "    done"
    yield "    return 0"
    yield "}"
    yield "export -f on_node"


def _launcher(job: JobSettings) -> Iterator[str]:
    total = job.nodes * job.processes
    if job.accelerate_config:
        yield f"--config_file {shlex.quote(job.accelerate_config)}"
    elif total > 1:
        yield "--multi_gpu --mixed_precision no --dynamo_backend no"
    else:
        yield "--mixed_precision no --dynamo_backend no"
    yield f"--num_machines {job.nodes} --num_processes {total}"
    yield '--machine_rank "$SLURM_NODEID" --main_process_ip "$HEAD_NODE" --main_process_port "$HEAD_PORT"'


def _parts(command: list[str]) -> Iterator[list[str]]:
    """A flag and its values stand in one line."""
    part: list[str] = []
    for word in command:
        if word.startswith("--") and part:
            yield part
            part = []
        part.append(word)
    yield part


def _srun(cluster: ClusterSettings, job: JobSettings) -> str:
    lines = ["srun --kill-on-bad-exit=1 --open-mode=append"]
    log = '--output="${run//%/%%}/slurm/node-%t.log"'
    cpus = '--cpus-per-task="$SLURM_CPUS_PER_TASK" ' if cluster.cpus_per_node else ""
    lines.append(f"{log} \\\n    {cpus}--cpu-bind=cores{' --gpu-bind=none' if job.gpus_per_node else ''}")
    lines += map(_expanded, container_options(cluster))
    return " \\\n    ".join([*lines, "bash -c on_node"])


def container_options(cluster: ClusterSettings) -> list[str]:
    """Of srun, as pyxis has them."""
    if not cluster.container:
        return []
    mounts = [f"--container-mounts={','.join(cluster.container_mounts)}"] if cluster.container_mounts else []
    return [f"--container-image={cluster.container}", *mounts]
