"""`hfscale doctor`: what a run folder holds, which checkpoints are valid, what the same command would do; and whether
the Hub would take a push."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from hfscale.errors import HubError, RunFolderError, SettingsError


def add_parser(commands: Any) -> None:
    """Add the command to those of `hfscale`."""
    parser = commands.add_parser(
        "doctor",
        help="say what a run folder holds, what it would go on from, and whether the Hub would take it",
        description="Say what a run folder holds, compare every file of its checkpoints with its sha256, and say "
        "what the same command would do. With --hub, say whether the Hub can be reached, whose token there is, "
        "and whether a repository can be written to. Changes nothing. The exit status is 1 where a checkpoint is not "
        "valid, 2 where a push would fail.",
        epilog="hfscale doctor runs/lora\nhfscale doctor --hub --repo me/my-model",
    )
    parser.add_argument("run_folder", metavar="RUN", type=Path, nargs="?", help="run folder")
    parser.add_argument("--hub", action="store_true", help="ask the Hub about the token, and about the repository")
    parser.add_argument("--repo", metavar="ID", help="repository, as in me/my-model; by default the run's own")
    parser.set_defaults(run=_doctor)


def _doctor(settings: argparse.Namespace) -> None:
    if settings.repo and not settings.hub:
        raise SettingsError("--repo has no effect without --hub; add it")
    if settings.run_folder is None and not settings.hub:
        raise SettingsError("nothing to look at: give a run folder, or --hub")
    if settings.hub:
        _ask_hub(settings)
    if settings.run_folder is not None:
        _look_at(settings.run_folder)


def _ask_hub(settings: argparse.Namespace) -> None:
    """Say what a push would find.

    Raises:
        HubError: where it would fail.
    """
    from hfscale import access, console, hub
    from hfscale.schemas import HubSettings

    before = hub.remembered(settings.run_folder) if settings.run_folder else None
    try:
        wanted = HubSettings(repo_id=settings.repo) if settings.repo else before
    except ValueError as error:
        raise SettingsError(str(error).replace("--hub.repo_id", "--repo")) from None
    who, role = access.token_holder()
    console.say(f"{'token':<11}of {who}, {role}")
    if wanted is None:
        return
    try:
        found = access.check_access(wanted)
    except HubError as error:
        said = re.sub(
            r"--hub\.(\w+ (?:true|false))", r"`hfscale push --\1`", str(error)
        )  # it has no such flags itself
        raise HubError(said.replace("--hub.", "--")) from None
    kind = "private" if found.private else "public"
    there = f"is there, {kind}" if found.exists else "is free"
    console.say(f"{'repository':<11}{wanted.repo_id} {there}; {found.user} may push to it")
    if found.used_bytes is not None:
        console.say(f"{'space':<11}{found.used_bytes / 2**20:,.1f} MiB used by it; the Hub tells no limit")


def _look_at(run: Path) -> None:
    from hfscale import console, runs
    from hfscale.training.checkpoint_files import best_folders, checkpoint_folders

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
    pushed = _pushed(run)
    if pushed:
        console.say(f"{'hub':<11}{pushed}")
    newest = next((folder for folder, (valid, _) in found.items() if valid), None)
    console.say(f"{'next':<11}the same command {_next(done, owner, newest)}")
    sys.exit(0 if all(valid for valid, _ in found.values()) else 1)


def _pushed(run: Path) -> str | None:
    """Whether a push of this run was begun, and has come to its end."""
    from hfscale import hub

    record = hub.push_record(run)
    if not record:
        return None
    done = "pushed to" if record.get("complete") else f"`hfscale push {run}` finishes the push to"
    return f"{done} {record.get('repo_id')}"


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
