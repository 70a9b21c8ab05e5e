"""What can be known to be wrong before a job is submitted: a job that waits a day to fail in a second is dear."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from hfscale import console
from hfscale.errors import LaunchError, RunFolderError, SettingsError
from hfscale.schemas.slurm import ClusterSettings, JobSettings
from hfscale.slurm import estimate
from hfscale.slurm.client import call, seconds
from hfscale.slurm.script import container_options, environment

_PATIENCE = 15  # seconds that a free node is waited for
_BUSY = re.compile(
    "Requested nodes are busy|Immediate execution impossible|Job/step already completing", re.IGNORECASE
)


def recipe_settings(command: list[str]) -> dict[str, Any]:
    """The settings that a recipe's command line comes to, which the recipe itself is asked for.

    Raises:
        SettingsError: what the recipe says of a wrong one, in one line.
    """
    if not Path(command[0]).is_file():
        raise SettingsError(f"no such recipe: {command[0]}")
    done = subprocess.run([sys.executable, *command, "--print_config"], capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        raise SettingsError(f"{command[0]}: {said[-1].removeprefix('error: ')}")
    settings = yaml.safe_load(done.stdout)
    if not isinstance(settings, dict) or "output_dir" not in settings.get("train", {}):
        raise SettingsError(f"{command[0]} is no recipe: it has no setting train.output_dir")
    return settings


def check(cluster: ClusterSettings, job: JobSettings, settings: dict[str, Any]) -> None:
    """Refuse a job that could not run.

    Args:
        settings: all of the recipe's.

    Raises:
        LaunchError: no Slurm, an unknown partition, more than its nodes have, an environment that lacks hfscale, a run
            that doesn't fit into the GPUs.
        RunFolderError: a run folder that can't be written, or too small a disk.
    """
    _check_partition(cluster, job)
    _check_environment(cluster)
    _check_folder(Path(job.run_folder))
    estimate.check(cluster, job, settings)
    if cluster.try_node:
        _try_node(cluster, job)


def _check_partition(cluster: ClusterSettings, job: JobSettings) -> None:
    lines = [line.split("|") for line in call("sinfo", "--noheader", "--format=%P|%G|%c|%l|%D").splitlines()]
    wanted = cluster.partition or next((line[0][:-1] for line in lines if line[0].endswith("*")), None)
    found = [line for line in lines if line[0].rstrip("*") == wanted]
    if not found:
        known = ", ".join(sorted({line[0].rstrip("*") for line in lines}))
        raise LaunchError(
            f"no partition {wanted or 'is the default'} on this cluster; choose one with --partition: {known}"
        )
    gpus = max(_gpus(line[1], cluster.gpu_type) for line in found)
    if job.gpus_per_node > gpus:
        kind = f" of type {cluster.gpu_type}" if cluster.gpu_type else ""
        raise LaunchError(f"--gpus-per-node {job.gpus_per_node}: a node of partition {wanted} has {gpus} GPUs{kind}")
    cpus = max(int(line[2].rstrip("+")) for line in found)
    if cluster.cpus_per_node and cluster.cpus_per_node > cpus:
        raise LaunchError(f"cpus_per_node {cluster.cpus_per_node}: a node of partition {wanted} has {cpus}")
    nodes = sum(int(line[4]) for line in found)
    if job.nodes > nodes:
        raise LaunchError(f"--nodes {job.nodes}: partition {wanted} has {nodes}")
    limit = seconds(found[0][3])
    asked = seconds(job.time) if job.time else None
    if asked and limit and asked > limit:
        raise LaunchError(f"--time {job.time}: partition {wanted} allows {found[0][3]}")
    if asked and asked <= cluster.warn_seconds:
        raise LaunchError(
            f"--time {job.time} is over before anything is done: the run is told to save {cluster.warn_seconds} s "
            "before (warn_seconds)"
        )


def _gpus(gres: str, kind: str | None) -> int:
    """GPUs of a node, from `gpu:8` or `gpu:a100:4(S:0-1),gpu:v100:2`."""
    found = re.findall(r"gpu:(?:([^:,(]+):)?(\d+)", gres)
    return sum(int(number) for name, number in found if kind is None or name == kind)


def _check_environment(cluster: ClusterSettings) -> None:
    """hfscale and the launcher are there; a container's and a module's are known on a node alone."""
    if cluster.container or cluster.modules or not cluster.venv:
        return
    python = Path(os.path.expandvars(cluster.venv)).expanduser() / "bin" / "python"
    if not python.is_file():
        raise LaunchError(f"venv {cluster.venv} has no bin/python; make it, or name another in the cluster's settings")
    words = [str(python), "-c", "import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, sys.argv[1:])))"]
    if subprocess.run([*words, "hfscale", "accelerate", "torch"], capture_output=True).returncode:
        raise LaunchError(f"venv {cluster.venv} lacks hfscale, accelerate or torch: {python} -m pip install hfscale")


def _try_node(cluster: ClusterSettings, job: JobSettings) -> None:
    """Import what the run imports on a node: drivers, modules and containers there are not those of the login node."""
    chosen = ("partition", "account", "qos", "constraint")
    flags = [f"--{name}={getattr(cluster, name)}" for name in chosen if getattr(cluster, name)]
    if job.gpus_per_node:  # partitions of GPUs often take no job that asks for none
        flags.append(f"--gpus-per-node={cluster.gpu_type + ':' if cluster.gpu_type else ''}1")
    lines = [*environment(cluster), "python -c 'import accelerate, hfscale, torch'"]
    words = ["--quiet", "--nodes=1", "--ntasks=1", "--time=5", f"--immediate={_PATIENCE}", *flags]
    try:
        call(
            "srun",
            *words,
            *map(os.path.expandvars, container_options(cluster)),
            "bash",
            "-c",
            "\n".join(lines),
            seconds=_PATIENCE + 300,
        )
    except LaunchError as error:
        if _BUSY.search(str(error)):
            return console.say(f"node       not tried: none was free within {_PATIENCE} seconds")
        raise LaunchError(f"the environment doesn't work on a node ({error})") from None
    console.say("node       has the environment")


def _check_folder(folder: Path) -> None:
    try:
        (folder / "slurm").mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder / "slurm"):
            pass
    except OSError as error:
        raise RunFolderError(
            f"can't write run folder {folder}: {error.strerror or error}; choose another --train.output_dir"
        ) from None
