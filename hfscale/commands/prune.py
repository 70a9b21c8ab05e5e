"""`hfscale prune`: take the least important parts out of a run's model."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

from hfscale.commands.output import refuse_taken
from hfscale.errors import ModelError, SettingsError
from hfscale.schemas import PruneSettings

_LR = 1e-4  # of finetune_bert.py for all weights


def add_parser(commands: Any) -> None:
    """Add the command to those of `hfscale`."""
    parser = commands.add_parser(
        "prune",
        help="take the least important parts out of a run's model, and measure what that costs and gives",
        description="Prune the model of a run of finetune_bert.py or train_cnn.py: metrics, size and speed before and "
        "after; the run stays as it is.",
    )
    add = parser.add_argument
    add("run_folder", metavar="RUN", type=Path, help="run folder, or a model folder")
    add("--sparsity", type=float, required=True, help="share that is taken out, between 0 and 1")
    add(
        "--method",
        default="structured",
        help="structured: remove feed-forward neurons, filters and, where the architecture can do with fewer, "
        "attention heads, for a smaller and faster model (the default); magnitude: set the smallest weights to zero; "
        "movement: set those to zero that training moves towards it, and train the others meanwhile",
    )
    add(
        "--importance",
        help="what chooses the neurons that stay: taylor, their effect on the loss of training examples (the "
        "default), or magnitude, the size of their weights",
    )
    add("--examples", type=int, default=512, help="training examples that taylor looks at (512)")
    add("--epochs", type=float, help="passes over the training examples in which movement learns what goes (3)")
    add("--output", type=Path, help="folder for the pruned model; by default RUN-pruned")
    parser.set_defaults(run=_prune)


def _prune(settings: argparse.Namespace) -> None:
    how = _how(settings)
    folder: Path = settings.run_folder
    from hfscale import console, interruption, launch, runs

    model_folder = runs.model_folder_of(folder)
    run = runs.run_around(folder)
    whole = run if run and model_folder.resolve() == (run / "model").resolve() else folder
    named = whole if whole.name not in ("", "..") else whole.resolve()
    output = settings.output or named.with_name(f"{named.name}-pruned")
    from hfscale.compression.pruning_units import refuse_unknown
    from hfscale.compression.refusals import PRUNABLE, refuse_prompt, refuse_seq2seq

    refuse_seq2seq(model_folder, PRUNABLE)
    refuse_prompt(model_folder)
    model_type = _model_type(model_folder)
    refuse_unknown(model_type, model_folder)
    refuse_taken(output)
    launch.quieten_deepspeed()
    interruption.watch_signals()
    from hfscale.compression.prune_run import prune_run
    from hfscale.compression.pruning_card import speed_up, summary, what_was_done

    told = runs.settings_of(run) if run else {}
    report = prune_run(model_folder, model_type, told, how, output, runs.run_name(output, run))
    console.say(f"pruned     {what_was_done(report)}")
    rows = [("", "before", "after"), *summary(report)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for what, before, after in rows:
        console.say(f"           {what:<{widths[0]}}  {before:>{widths[1]}}  {after:>{widths[2]}}")
    console.say(f"faster     {speed_up(report)}")
    console.say(f"saved      {output}, {output}/prune.json")
    if how.method == "structured" and run:
        console.say(f"recover    {_recovery(run, told, model_type, output)}")
        if not _recipe(model_type).is_file():
            console.say("           in a clone of hfscale, with paths from there: the recipes are not installed")


def _how(settings: argparse.Namespace) -> PruneSettings:
    try:
        return PruneSettings(
            method=settings.method,
            sparsity=settings.sparsity,
            importance=settings.importance,
            examples=settings.examples,
            epochs=settings.epochs,
        )
    except ValueError as error:
        raise SettingsError(str(error)) from None


def _model_type(folder: Path) -> str:
    """What kind of model the folder holds, by its config."""
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{folder} holds an adapter, which has no layers of its own to prune; merge it first, with "
            "hfscale export --merge"
        )
    try:
        return str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"])
    except OSError:
        raise ModelError(f"{folder} holds no model (no config.json)") from None
    except (ValueError, KeyError, TypeError):
        raise ModelError(f"{folder / 'config.json'} doesn't say what type of model it is") from None


def _recovery(run: Path, settings: dict[str, Any], model_type: str, output: Path) -> str:
    """The command that trains the pruned model for another epoch with the run's own settings."""
    recipe = _recipe(model_type)
    words = ["python", str(recipe), "--config", str(run / "config.yaml"), "--model.name", str(output)]
    model, train = settings.get("model") or {}, settings.get("train") or {}
    for name in (
        ("revision", "conv_channels", "hidden_size", "dropout") if recipe.name == "train_cnn.py" else ("revision",)
    ):
        words += [f"--model.{name}", "null"] if model.get(name) is not None else []
    words += ["--model.random_weights", "false"] if model.get("random_weights") else []
    words += [word for name in ("lora", "quant") if settings.get(name) for word in (f"--{name}", "null")]
    if settings.get("lora") and (settings.get("optim") or {}).get("lr", 0) > _LR:
        words += ["--optim.lr", f"{_LR:g}"]  # an adapter's own would undo what the other weights know
    words += ["--train.resume", "auto"] if train.get("resume", "auto") != "auto" else []
    words += ["--train.max_steps", "null"] if train.get("max_steps") else []
    return shlex.join([*words, "--train.epochs", "1", "--train.output_dir", f"{output}-recovered"])


def _recipe(model_type: str) -> Path:
    """The recipe that trains such a model: from here, or in the clone that this package belongs to."""
    recipe = Path("recipes", "train_cnn.py" if model_type == "hfscale_cnn" else "finetune_bert.py")
    clone = Path(__file__).resolve().parents[2] / recipe
    return recipe if recipe.is_file() or not clone.is_file() else clone
