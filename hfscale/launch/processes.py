"""Becoming one of the processes of a run, and refusing launches that would train something else than was asked for."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hfscale import console, interruption
from hfscale.errors import LaunchError, MissingExtraError
from hfscale.launch.deepspeed import prepare_deepspeed, quieten_deepspeed, take_over
from hfscale.launch.memory import keep_freed_memory
from hfscale.schemas import num_soft_tokens

if TYPE_CHECKING:
    from accelerate import Accelerator

    from hfscale.schemas import LoraSettings, QuantSettings, TrainSettings

_RIGHT = "accelerate launch --config_file accelerate_configs/ddp.yaml --num_processes {n} RECIPE ..."
_PATIENCE = timedelta(hours=2)  # the first process may read and tokenize that long while the others wait
_SHARDERS = {
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config",
}


def start(train: TrainSettings, quant: QuantSettings | None = None, lora: LoraSettings | None = None) -> Accelerator:
    """The `Accelerator` of this process: a GPU where there is one, else the CPU with all of its cores; DDP over
    several.

    Args:
        quant, lora: how frozen weights are held, and what is trained beside them; not all launches share these out.

    Raises:
        LaunchError: where the launch command asks for something that would silently not happen.
        MissingExtraError: for a tracker that is not installed.
    """
    prompt = num_soft_tokens(lora) > 0
    refuse_unsupported(os.environ, quantized=quant is not None, prompt=prompt)
    interruption.watch_signals()
    trackers = _installed(train.trackers or [])
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler would announce itself on stderr
    import torch
    from accelerate import Accelerator

    if _flag(os.environ, "ACCELERATE_USE_FSDP") and not torch.cuda.is_available():
        right = _RIGHT.replace("ddp", "zero3").format(n=os.environ.get("WORLD_SIZE", 2))
        raise LaunchError(
            f"FSDP2 needs GPUs: on a CPU accelerate would train copies and share nothing, without a word; use {right}"
        )
    sharded = _flag(os.environ, "ACCELERATE_USE_DEEPSPEED")
    quieten_deepspeed()
    if sharded:
        prepare_deepspeed(torch.cuda.is_available())

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # DistributedDataParallel imports the one, accelerate the other where it is installed; and where they are
        # imported after the group began they keep it for good.
        import torch._dynamo

        with contextlib.suppress(ImportError):
            import deepspeed  # noqa: F401
    on_cpu = not torch.cuda.is_available() or _flag(os.environ, "ACCELERATE_USE_CPU")
    if on_cpu:
        keep_freed_memory()
        _use_all_cores(os.environ)
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").replace("no", "fp32")
    if train.precision and train.precision != asked and asked != "fp32":
        console.warn(f"--train.precision {train.precision} overrides the launcher's mixed_precision {asked}")
    precision = train.precision or asked
    if precision not in ("fp32", "bf16"):
        raise LaunchError(f"mixed_precision {precision} is not supported; use bf16, or no")
    accelerator = Accelerator(
        cpu=on_cpu and not sharded,  # with it accelerate would silently not shard
        mixed_precision="no" if precision == "fp32" else precision,
        log_with=trackers or None,
        project_dir=train.output_dir,
        kwargs_handlers=[_process_group(sharded and on_cpu)],
    )
    if sharded:
        take_over(accelerator, prompt)
    refuse_strangers(accelerator.num_processes, os.environ, _launcher_arguments())
    console.say(f"running    {_describe(accelerator, precision)}")
    if on_cpu and precision == "bf16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        console.warn("this CPU has no bf16 arithmetic: bf16 is emulated, many times slower than fp32")
    return accelerator


def _process_group(over_gloo: bool) -> Any:
    from accelerate import InitProcessGroupKwargs

    return InitProcessGroupKwargs(timeout=_PATIENCE, **({"backend": "gloo"} if over_gloo else {}))


def batching(accelerator: Accelerator, pads: bool = True) -> dict[str, int]:
    """What batches have to know of this process: which of how many it is, and, where they are padded, to a multiple of
    what: 8 for the tensor cores of a GPU; on a CPU every position costs."""
    place: dict[str, int] = {"process_index": accelerator.process_index, "num_processes": accelerator.num_processes}
    multiple: dict[str, int] = {"pad_multiple": 8 if accelerator.device.type == "cuda" else 1}
    return multiple | place if pads else place


def finish(accelerator: Accelerator) -> None:
    """End a run in good order: close the trackers and take the process group apart while Python is still whole.

    A thread of gloo may still hold a tensor of the last exchange, and aborts the process where it lets go of it while
    the interpreter shuts down (pytorch#179291). The threads end with the group, and the group with the wrapped model.
    """
    accelerator.free_memory()
    accelerator.end_training()


def refuse_unsupported(environ: Mapping[str, str], quantized: bool = False, prompt: bool = False) -> None:
    """Refuse what the launcher was told and `fit` doesn't do.

    Raises:
        LaunchError: for sharding that it doesn't know, FSDP2 of quantized weights or beside a trained prompt, or
            gradient accumulation in the launcher's settings.
    """
    number = environ.get("WORLD_SIZE", 2)
    for variable, name in _SHARDERS.items():
        if _flag(environ, variable):
            raise LaunchError(
                f"this launch asks for {name}, which hfscale does not run; use {_RIGHT.format(n=number)}"
            )
    if _flag(environ, "ACCELERATE_USE_FSDP") and environ.get("FSDP_VERSION", "1") != "2":
        right = _RIGHT.replace("ddp", "fsdp2").format(n=number)
        raise LaunchError(f"this launch asks for FSDP in its first version; use {right}")
    if _flag(environ, "ACCELERATE_USE_FSDP") and _flag(environ, "FSDP_ACTIVATION_CHECKPOINTING"):
        raise LaunchError(
            "the launcher's fsdp_activation_checkpointing is true; leave it out: --train.activation_checkpointing "
            "decides it"
        )
    if quantized and _flag(environ, "ACCELERATE_USE_FSDP"):
        right = _RIGHT.replace("ddp", "zero3").format(n=number)
        raise LaunchError(f"FSDP2 can't share out the integers of --quant; use {right}, or leave out --quant")
    if prompt and _flag(environ, "ACCELERATE_USE_FSDP"):
        right = _RIGHT.replace("ddp", "zero2").format(n=number)
        raise LaunchError(f"--lora.method prompt has not been tried under FSDP2; use {right}")
    right = _RIGHT.replace("ddp", "zero2").format(n=number)
    if _flag(environ, "ACCELERATE_USE_DEEPSPEED") and _flag(environ, "ACCELERATE_USE_CPU"):
        raise LaunchError(
            "ACCELERATE_USE_CPU (use_cpu: true) would turn DeepSpeed into plain DDP without a word; leave it out: "
            f"{right}"
        )
    if _flag(environ, "ACCELERATE_USE_DEEPSPEED") and "RANK" not in environ:
        raise LaunchError(
            "ACCELERATE_USE_DEEPSPEED is set, but no launcher has told this process its place (DeepSpeed would ask "
            f"MPI); use {right}"
        )
    steps = environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if steps != "1":
        raise LaunchError(
            f"the launcher's gradient_accumulation_steps is {steps}; leave it out: accumulation follows from "
            "--train.global_batch_size and --train.micro_batch_size"
        )


def refuse_strangers(num_processes: int, environ: Mapping[str, str], launcher: Sequence[str]) -> None:
    """Refuse processes that don't know of each other, or fewer than the launch command asked for.

    Args:
        num_processes: processes that this one can exchange gradients with, itself included.
        launcher: the words of the `accelerate launch` command that started this process, if any.

    Raises:
        LaunchError: with the command that works.
    """
    world = int(environ.get("WORLD_SIZE", "1"))
    if world != num_processes:
        raise LaunchError(
            f"{world} processes were started, but each of them trains alone; use {_RIGHT.format(n=world)}"
        )
    tasks = int(environ.get("SLURM_NTASKS", "1"))
    if num_processes == 1 and tasks > 1 and "SLURM_STEP_ID" in environ:
        raise LaunchError(
            f"srun started {tasks} copies that don't know of each other; start one task per node, running "
            + _RIGHT.format(n=tasks)
        )
    wanted = _wanted_processes(launcher)
    if num_processes == 1 and wanted > 1:
        raise LaunchError(
            f"{wanted} processes were asked for, but this launch starts only one (so does --cpu, and distributed_type "
            f"MULTI_CPU or NO); use {_RIGHT.format(n=wanted)}"
        )


def _wanted_processes(launcher: Sequence[str]) -> int:
    """`num_processes` of an `accelerate launch` command: its flag, else its config file; 1 where neither says."""
    if not launcher:
        return 1
    words = [word for argument in launcher for word in argument.split("=", 1)]
    script = next((i for i, word in enumerate(words) if word.endswith(".py") and "accelerate" not in word), len(words))
    flags = {word.replace("-", "_"): value for word, value in itertools.pairwise(words[: script + 1])}
    number = flags.get("__num_processes")
    if number is None:
        from accelerate.commands.config.config_args import default_config_file

        number = _from_config_file(Path(flags.get("__config_file", default_config_file)))
    return int(number) if number and number.isdigit() else 1


def _from_config_file(path: Path) -> str | None:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML, too
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    return str(content.get("num_processes")) if isinstance(content, dict) else None


def _launcher_arguments() -> list[str]:
    """Command line of the parent process if that is `accelerate launch`: the only place that tells what was asked."""
    import psutil

    try:
        words = psutil.Process().parent().cmdline()  # type: ignore[union-attr]
    except (psutil.Error, AttributeError):
        return []
    return launch_arguments(words)


def launch_arguments(words: Sequence[str]) -> list[str]:
    """What follows `accelerate launch`, `accelerate-launch` or `-m accelerate.commands.launch`; else nothing."""
    starts = ("launch", "accelerate.commands.launch", "accelerate-launch")
    launch = next((i for i, word in enumerate(words) if Path(word).name in starts), None)
    return list(words[launch + 1 :]) if launch is not None and any("accelerate" in word for word in words) else []


def _installed(trackers: Sequence[str]) -> list[Any]:
    for name in trackers:
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(f"--train.trackers {name} comes with an extra: pip install 'hfscale[{name}]'")
    return list(trackers)


def _use_all_cores(environ: Mapping[str, str]) -> None:
    """Share the cores out over this machine's processes.

    `accelerate launch` sets OMP_NUM_THREADS to 1 unless told otherwise, which would leave the other cores idle; what a
    person set is kept where no launcher stood between.
    """
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    here = int(environ.get("LOCAL_WORLD_SIZE", "1"))
    if here > cores:
        console.warn(f"no GPU is used: {here} processes share the {cores} cores of this machine")
    launched = "ACCELERATE_MIXED_PRECISION" in environ or "LOCAL_WORLD_SIZE" in environ
    if launched or "OMP_NUM_THREADS" not in environ:
        torch.set_num_threads(max(1, cores // here))


def _flag(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").lower() in ("1", "true", "yes", "on")


def _describe(accelerator: Accelerator, precision: str) -> str:
    import torch

    device, threads = accelerator.device, torch.get_num_threads()
    cpu = f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    number = accelerator.num_processes
    processes = f"{number} processes ({accelerator.distributed_type.value})" if number > 1 else "1 process"
    return f"{processes} on {name}, {precision}"
