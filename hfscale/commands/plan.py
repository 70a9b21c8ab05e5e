"""`hfscale plan`: does it fit, how long does it take, what does it cost, and how should it be launched?"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
from pathlib import Path
from typing import Any, get_args

from hfscale.commands.output import refuse_taken
from hfscale.errors import SettingsError, did_you_mean
from hfscale.schemas import Task

_OBJECTIVES = ("causal", "masked", "seq2seq", *get_args(Task))
_OF_THE_RECIPE = {
    "sequence_length": "--data.max_length",
    "global_batch_size": "--train.global_batch_size",
    "micro_batch_size": "--train.micro_batch_size",
    "precision": "--train.precision",
    "objective": "its own",
    "optimizer": "--optim.name",
    "tokens": "--train.max_steps",
}
"""Options that only a bare model takes, and what a recipe has in their place."""


def add_parser(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "plan",
        help="memory, time and cost of a training run, and how to launch it, before a GPU is paid for",
        description="Plan a recipe with its settings, or a model by its config, on GPUs that need not be here: memory "
        "per GPU, speed and cost of each way to train; no weights are read, no GPU is needed.",
        epilog="hfscale plan recipes/finetune_bert.py --config FILE --gpus 8 --gpu h100\n"
        "hfscale plan --model config.json --gpus 8 --gpu h100 --sequence_length 4096 --tokens 1e9",
    )
    add = parser.add_argument
    add("recipe", nargs="?", type=Path, help="a recipe; its own settings may follow, as in --config FILE")
    add("--model", help="instead of a recipe: a model's folder, Hub id or config.json")
    add("--gpu", default="h100", help="kind of GPU (h100)")
    add("--gpus", type=int, default=1, help="GPUs in all (1)")
    add("--nodes", type=int, help="machines that they are in; by default 8 GPUs in each")
    add(
        "--sequence_length",
        type=int,
        help="tokens per sequence of a bare model, of an encoder-decoder's either text; its positions, at most 4,096",
    )
    add(
        "--global_batch_size",
        type=int,
        help="sequences per optimizer step of a bare model (32, or more for more GPUs)",
    )
    add("--micro_batch_size", type=int, help="sequences per forward pass on one GPU; by default the most that fit")
    add("--precision", choices=("fp32", "bf16"), help="arithmetic of a bare model; bf16 where the GPU has it")
    add("--objective", metavar="NAME", help=f"what a bare model learns: {', '.join(_OBJECTIVES)}")
    add("--optimizer", choices=("adamw", "adamw8bit", "sgd"), help="optimizer of a bare model (adamw)")
    add("--steps", type=int, help="optimizer steps of the whole run, where the settings don't say")
    add("--tokens", type=float, help="tokens of the whole run of a bare model, instead of --steps")
    add("--lora_rank", type=int, help="rank of the adapters (16), where the settings have no lora")
    add("--efficiency", type=float, default=0.4, help="share of the GPU's peak that training reaches (0.4)")
    add("--price", type=float, help="price of a GPU hour; without it no cost is said")
    add("--json", action="store_true", help="print JSON instead of a table")
    add("--output", type=Path, help="file for the accelerate settings of the recommended way")
    add("--picture", type=Path, help="file for a picture of the memory (.png, .svg, .pdf)")
    parser.set_defaults(run=run, takes_more=True)


def run(settings: argparse.Namespace) -> None:
    """Make the plan and show it.

    Raises:
        SettingsError, ModelError: for what can't be planned.
        LaunchError: where nothing fits, after the table.
    """
    _check(settings)
    from hfscale import console, files
    from hfscale.launch.plan.gpus import find_gpu
    from hfscale.launch.plan.time_and_cost import Cluster, default_nodes

    gpu = find_gpu(settings.gpu)
    cluster = Cluster(
        gpu=gpu,
        num_gpus=settings.gpus,
        num_nodes=settings.nodes or default_nodes(settings.gpus),
        efficiency=settings.efficiency,
        price_per_gpu_hour=settings.price,
    )
    with contextlib.redirect_stdout(sys.stderr):  # what is printed is the plan alone
        workload = _workload(settings, "fp32" if gpu.bf16_tflops is None else "bf16")
        from hfscale.launch.plan.plan import make_plan, refuse_misfit

        if settings.lora_rank and workload.lora:
            raise SettingsError("--lora_rank has no effect beside the recipe's own --lora; leave it out")
        plan = make_plan(workload, cluster, settings.lora_rank or 16)
    from hfscale.launch.plan.accelerate_config import accelerate_yaml
    from hfscale.launch.plan.render import as_json, print_table

    if settings.json:
        sys.stdout.write(json.dumps(as_json(plan), indent=2) + "\n")
    else:
        print_table(plan, sys.stdout)
    if settings.picture:
        from hfscale.launch.plan.picture import draw

        draw(plan, settings.picture)
        console.say(f"wrote      {settings.picture}", sys.stderr)
    refuse_misfit(plan)
    assert plan.recommended
    if settings.output:
        files.write_text(settings.output, accelerate_yaml(plan, plan.recommended))
        console.say(f"wrote      {settings.output}, for accelerate launch --config_file", sys.stderr)


def _workload(settings: argparse.Namespace, default_precision: Any) -> Any:
    from hfscale.launch.plan.sources import model_workload, recipe_workload
    from hfscale.schemas import OptimSettings

    if settings.recipe:
        return recipe_workload(settings.recipe, settings.more, default_precision, settings.steps)
    batch = settings.global_batch_size or -(-32 // settings.gpus) * settings.gpus
    workload = model_workload(
        settings.model,
        settings.objective,
        settings.sequence_length,
        global_batch_size=batch,
        micro_batch_size=settings.micro_batch_size,
        precision=settings.precision or default_precision,
        optim=OptimSettings(name=settings.optimizer or "adamw"),
        num_steps=settings.steps,
    )
    if settings.tokens is None:
        return workload
    import dataclasses

    steps = max(1, round(settings.tokens / (batch * workload.tokens_per_sequence)))
    return dataclasses.replace(workload, num_steps=steps)


def _check(settings: argparse.Namespace) -> None:
    """Refuse what contradicts itself, before anything heavy is imported."""
    if settings.model and settings.more:
        raise SettingsError(f"unknown option {settings.more[0]}{did_you_mean(settings.more[0], _options(settings))}")
    if (settings.recipe is None) == (settings.model is None):
        raise SettingsError("give a recipe, or a model with --model; one of the two")
    for name, instead in _OF_THE_RECIPE.items():
        if settings.recipe and getattr(settings, name) is not None:
            raise SettingsError(f"--{name} has no effect on a recipe, which has {instead}; leave it out")
    for name in ("gpus", "nodes", "sequence_length", "global_batch_size", "micro_batch_size", "steps", "lora_rank"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise SettingsError(f"--{name} must be at least 1, got {value}")
    for name in ("tokens", "price"):
        value = getattr(settings, name)
        if value is not None and not math.isfinite(value):
            raise SettingsError(f"--{name} must be a number, got {value}")
    if not 0 < settings.efficiency <= 1:
        raise SettingsError(f"--efficiency must be in (0, 1], got {settings.efficiency}")
    if settings.price is not None and settings.price < 0:
        raise SettingsError(f"--price must not be negative, got {settings.price}")
    if settings.tokens is not None and (settings.steps is not None or settings.tokens < 1):
        raise SettingsError("--tokens must be at least 1 and stand without --steps")
    if settings.objective is not None and settings.objective not in _OBJECTIVES:
        raise SettingsError(f"--objective {settings.objective} is none of {', '.join(_OBJECTIVES)}")
    if settings.picture and settings.picture.suffix not in (".png", ".svg", ".pdf"):
        raise SettingsError(f"--picture {settings.picture} must end in .png, .svg or .pdf")
    for name in ("output", "picture"):
        path = getattr(settings, name)
        if path:
            refuse_taken(path, f"--{name}")


def _options(settings: argparse.Namespace) -> list[str]:
    return [f"--{name}" for name in vars(settings)]
