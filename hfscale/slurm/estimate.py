"""Memory, time and disk that a job will need, by `hfscale plan`, before it is submitted."""

from __future__ import annotations

import copy
import json
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
from hfscale.training.checkpoint_files import checkpoint_folders

_CHECKPOINT = 4 + 8
"""Bytes per weight at most: float32 weights with AdamW's moments."""
_MODEL = 4


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
    _check_disk(workload, job)
    if job.gpus_per_node:
        adapters = None if workload.lora is None else "qlora" if workload.bits else "lora"
        way = replace(_strategy(launcher, settings["train"].get("activation_checkpointing", False)), adapters=adapters)
        _check_gpus(cluster, job, workload, way)


def _check_disk(workload: Workload, job: JobSettings) -> None:
    """Two checkpoints, the old and the new, beside the best and the last model; one is there where a run goes on."""
    folder, weights = Path(job.run_folder), _saved_weights(workload)
    runs = [Path(job.folder(task)) for task in job.tasks or [None]]
    checkpoints = sum(1 if checkpoint_folders(run) else 2 for run in runs)
    need = weights * (checkpoints * _CHECKPOINT + 2 * len(runs) * _MODEL)
    free = shutil.disk_usage(folder).free
    if free < need:
        raise RunFolderError(
            f"the disk of {folder} has {_gib(free)} free; checkpoints and models take up to {_gib(need)}; make room "
            "or choose another --train.output_dir"
        )
    console.say(f"disk       {_gib(need)} needed at most, {_gib(free)} free")


def _saved_weights(workload: Workload) -> int:
    """How many weights a checkpoint holds: all, or those that are trained beside an adapter's base."""
    import torch

    from hfscale.launch.plan.adapters import add_adapter
    from hfscale.launch.plan.architecture import build_model, num_parameters

    if workload.lora is None:
        return num_parameters(workload)
    with torch.device("meta"):
        model = build_model(workload, copy.deepcopy(workload.config), torch.float32)
        add_adapter(model, workload.lora, train_head=not workload.is_language_model)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


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
    zero = _zero_settings(launcher) if kind == "DEEPSPEED" else {}
    stage: Any = {"FSDP": 3, "DEEPSPEED": zero.get("zero_stage", 2)}.get(kind, 0)
    if kind == "DEEPSPEED" and stage not in (1, 2, 3):
        raise SettingsError(f"--accelerate-config: zero_stage is {stage}, not 1, 2 or 3")
    return Strategy(
        name=f"ZeRO-{stage}" if zero else "FSDP2" if stage else "DDP",
        zero_stage=stage,
        offload_optimizer=zero.get("offload_optimizer_device") == "cpu",
        offload_weights=zero.get("offload_param_device") == "cpu",
        checkpointing=checkpointing,
    )


def _zero_settings(launcher: dict[str, Any]) -> dict[str, Any]:
    """DeepSpeed's, in the launcher's words."""
    zero = launcher.get("deepspeed_config") or {}
    if not isinstance(zero, dict):
        raise SettingsError("--accelerate-config: deepspeed_config holds no settings")
    path = zero.get("deepspeed_config_file")
    if path is None:
        return zero
    try:
        own = json.loads(Path(path).read_text(encoding="utf-8"))["zero_optimization"]
        devices = {name: own.get(name, {}).get("device") for name in ("offload_optimizer", "offload_param")}
        return {"zero_stage": own.get("stage"), **{f"{name}_device": device for name, device in devices.items()}}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise SettingsError(f"deepspeed_config_file {path} holds no zero_optimization") from None


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
