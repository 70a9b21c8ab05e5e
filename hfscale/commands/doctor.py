"""`hfscale doctor`: what a run folder holds, which checkpoints are valid, what the same command would do."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hfscale.errors import RunFolderError


def add_parser(commands: Any) -> None:
    """Add the command to those of `hfscale`."""
    parser = commands.add_parser(
        "doctor",
        allow_abbrev=False,
        help="say what a run folder holds, and what it would go on from",
        description="Say what a run folder holds, compare every file of its checkpoints with its sha256, and say what "
        "the same command would do. Changes nothing.",
    )
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="run folder")
    parser.set_defaults(run=_doctor)


def _doctor(settings: argparse.Namespace) -> None:
    from hfscale import console, runs
    from hfscale.training.checkpoint_files import best_folders, checkpoint_folders

    run: Path = settings.run_folder
    if not (run / "config.yaml").is_file():
        raise RunFolderError(f"{run} holds no run (no config.yaml)" if run.is_dir() else f"no such folder: {run}")
    done, owner = runs.finished(run), runs.owner_of(run)
    state = f"complete, {done}" if done else "in progress" if owner else "interrupted"
    console.say(f"{'run':<11}{run}: {state}")
    if owner:
        console.say(f"{'in use':<11}by {owner}")
    for folder in checkpoint_folders(run):
        console.say(f"{'checkpoint':<11}{folder.name}  {_describe(folder)}")
    for folder in best_folders(run):
        console.say(f"{'best model':<11}{folder}")
    if (run / "model" / "config.json").is_file():
        console.say(f"{'model':<11}{run / 'model'}")
    console.say(f"{'next':<11}{_next(run, done, owner)}")


def _describe(folder: Path) -> str:
    from hfscale.training.checkpoint_files import BrokenCheckpoint, read_checkpoint

    try:
        checkpoint = read_checkpoint(folder)
    except BrokenCheckpoint as reason:
        return f"not valid: {reason}"
    facts = checkpoint.manifest
    epoch = f", epoch {facts['epoch']:.2f}" if "epoch" in facts else ""
    steps = (
        f"step {checkpoint.step} of {facts['total_steps']}" if "total_steps" in facts else f"step {checkpoint.step}"
    )
    return f"valid: {steps}{epoch}, {checkpoint.num_bytes / 2**20:,.1f} MiB, written {facts['written']}"


def _next(run: Path, done: str | None, owner: Any) -> str:
    from hfscale.training.checkpoint_files import newest_valid

    if done:
        return "the same command has nothing left to do"
    if owner:
        return "the same command is refused while that process lives"
    checkpoint, _ = newest_valid(run)
    if checkpoint is None:
        return "the same command starts from the beginning: there is no valid checkpoint"
    return f"the same command goes on from {checkpoint.folder.name}"
