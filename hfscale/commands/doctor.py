"""`hfscale doctor`: what a run folder holds, which checkpoints are valid, what the same command would do."""

from __future__ import annotations

import argparse
import sys
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
        "the same command would do. Changes nothing. The exit status is 1 where a checkpoint is not valid.",
    )
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="run folder")
    parser.set_defaults(run=_doctor)


def _doctor(settings: argparse.Namespace) -> None:
    from hfscale import console, runs
    from hfscale.training.checkpoint_files import best_folders, checkpoint_folders

    run: Path = settings.run_folder
    if not (run / "config.yaml").is_file():
        above = run.resolve().parent.parent
        hint = f"; did you mean {above}?" if (above / "config.yaml").is_file() else ""
        raise RunFolderError(f"{run} holds no run{hint}" if run.is_dir() else f"no such folder: {run}")
    done, owner = runs.finished(run), runs.owner_of(run)
    state = f"complete, {done}" if done else "in use" if owner else "interrupted"
    console.say(f"{'run':<11}{run}: {state}")
    if owner:
        console.say(f"{'in use':<11}by {owner}")
    found = {folder: _examine(folder) for folder in checkpoint_folders(run)}
    for folder, (_, words) in found.items():
        console.say(f"{'checkpoint':<11}{folder.name}  {words}")
    for folder in best_folders(run):
        console.say(f"{'best model':<11}{folder}")
    if (run / "model" / "config.json").is_file():
        console.say(f"{'model':<11}{run / 'model'}")
    newest = next((folder for folder, (valid, _) in found.items() if valid), None)
    console.say(f"{'next':<11}the same command {_next(done, owner, newest)}")
    sys.exit(0 if all(valid for valid, _ in found.values()) else 1)


def _examine(folder: Path) -> tuple[bool, str]:
    """(whether it is valid, what it is)."""
    from hfscale.training.checkpoint_files import BrokenCheckpoint, read_checkpoint

    try:
        checkpoint = read_checkpoint(folder)
    except BrokenCheckpoint as reason:
        return False, f"not valid: it {reason}"
    facts = checkpoint.manifest
    where = f"step {checkpoint.step} of {facts['total_steps']}, epoch {facts['epoch']:.2f}"
    return True, f"valid: {where}, {checkpoint.num_bytes / 2**20:,.1f} MiB, written {facts['written']}"


def _next(done: str | None, owner: Any, newest: Path | None) -> str:
    if done:
        return "has nothing left to do"
    if owner:
        return "is refused while that process lives"
    return f"goes on from {newest.name}" if newest else "starts from the beginning: there is no valid checkpoint"
