"""Memory, time and disk that a job will need, by `hfscale plan`, before it is submitted."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from hfscale import console
from hfscale.errors import LaunchError, ModelError, RunFolderError, SettingsError
from hfscale.launch.plan.strategies import Strategy
from hfscale.launch.plan.workload import Workload
from hfscale.schemas.slurm import ClusterSettings, JobSettings
from hfscale.slurm.client import seconds

_ON_DISK = 2 * (4 + 8) + 2 * 4
"""Bytes per weight at most: two checkpoints of float32 weights with AdamW's moments, the best and the last model."""


def check(cluster: ClusterSettings, job: JobSettings, settings: dict[str, Any]) -> None:
    """Compare what the run needs with what the job gets, and say it.

    Args:
        settings: all of the recipe's, as it prints them.

    Raises:
        LaunchError: for a run that doesn't fit into the GPUs, or takes more starts than are allowed.
        RunFolderError: for a disk that is too small.
    """
    from hfscale.launch.plan.sources import recipe_workload

    launcher = _launcher_settings(job.accelerate_config)
    precision: Any = "bf16" if str(launcher.get("mixed_precision")).lower() == "bf16" else "fp32"
    try:
        workload = recipe_workload(Path(job.command[0]), job.command[1:], precision, None)
    except (SettingsError, ModelError) as error:  # the recipe has taken its settings: they are not at fault
        return console.say(f"estimate   none: {error}")
    _check_disk(workload, Path(job.run_folder))
    if job.gpus_per_node:
        adapters = None if workload.lora is None else "qlora" if workload.bits else "lora"
        way = replace(_strategy(launcher, settings["train"].get("activation_checkpointing", False)), adapters=adapters)
        _check_gpus(cluster, job, workload, way)


def _check_disk(workload: Workload, folder: Path) -> None:
    from hfscale.launch.plan.architecture import num_parameters

    need, free = _ON_DISK * num_parameters(workload), shutil.disk_usage(folder).free
    if free < need:
        raise RunFolderError(
            f"the disk of {folder} has {_gib(free)} free; checkpoints and models take up to {_gib(need)}; make room "
            "or choose another --train.output_dir"
        )
    console.say(f"disk       {_gib(need)} needed at most, {_gib(free)} free")


def _check_gpus(cluster: ClusterSettings, job: JobSettings, workload: Workload, way: Strategy) -> None:
    from hfscale.launch.plan import time_and_cost
    from hfscale.launch.plan.gpus import GPUS, find_gpu
    from hfscale.launch.plan.plan import make_plan

    name = cluster.gpu or (cluster.gpu_type if (cluster.gpu_type or "").lower() in GPUS else None)
    if name is None:
        return console.say("estimate   none: name the GPUs in the cluster's settings, as in `gpu: a100`")
    total = job.nodes * job.processes
    gpus = time_and_cost.Cluster(gpu=find_gpu(name), num_gpus=total, num_nodes=job.nodes)
    try:
        plan = make_plan(workload, gpus, strategies=[way])
    except ModelError as error:
        return console.say(f"estimate   none: {error}")
    row, where = plan.recommended, f"{total} x {gpus.gpu.title}"
    if row is None:
        raise LaunchError(
            f"{workload.name} does not fit on {where} as {way.title}: {plan.why}; hfscale plan shows every way"
        )
    console.say(f"memory     {_gib(row.total_bytes)} of {where} each, as {way.title}")
    _check_time(cluster, job, plan.run_hours(row))


def _check_time(cluster: ClusterSettings, job: JobSettings, hours: float | None) -> None:
    limit = seconds(job.time) if job.time else None
    if hours is None or limit is None:
        return
    starts = math.ceil(hours * 3600 / (limit - cluster.warn_seconds))
    words = f"about {hours:.1f} h of training, {starts} start{'s' if starts > 1 else ''} of {job.time}"
    if starts > cluster.max_restarts + 1:
        raise LaunchError(
            f"{words}: more than max_restarts {cluster.max_restarts} allows; ask for more --time or GPUs"
        )
    console.say(f"time       {words}")


def _launcher_settings(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"--accelerate-config {path}: {getattr(error, 'strerror', None) or 'no YAML'}") from None
    if not isinstance(found, dict):
        raise SettingsError(f"--accelerate-config {path} holds no settings")
    return found


def _strategy(launcher: dict[str, Any], checkpointing: bool) -> Strategy:
    """What the launcher's settings come to."""
    kind = str(launcher.get("distributed_type", "")).upper()
    zero = launcher.get("deepspeed_config", {}) if kind == "DEEPSPEED" else {}
    stage: Any = 3 if kind == "FSDP" else int(zero.get("zero_stage", 0))
    return Strategy(
        name=f"ZeRO-{stage}" if zero else "FSDP2" if stage else "DDP",
        zero_stage=stage,
        offload_optimizer=zero.get("offload_optimizer_device") == "cpu",
        offload_weights=zero.get("offload_param_device") == "cpu",
        checkpointing=checkpointing,
    )


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
