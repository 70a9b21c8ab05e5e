"""The folder of one run: whether it is free, interrupted, finished or another's, and what to go on from.

RUN/
|-- .lock                  who is writing to it
|-- config.yaml            the resolved settings; `--config RUN/config.yaml` runs the same again
|-- environment.json       versions and hardware of the last start, other hardware of those before it
|-- metrics.jsonl          one object per logged step
|-- checkpoints/step-*/    what an interrupted run goes on from
|-- checkpoints/best-*/    the best model so far
|-- model/                 the final model: a plain Hugging Face folder
|-- learning_curve.png
|-- slurm/                 script, logs and past starts of a Slurm job; there before the run is
`-- result.json            where it says `"complete": true`, there is nothing left to do
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import json
import shutil
import tempfile
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfscale import console
from hfscale.access import check_access
from hfscale.config import flat_settings, save_config
from hfscale.errors import AlreadyDone, HfscaleError, HubError, RunFolderError
from hfscale.files import clear_leftovers, write_json
from hfscale.runs.changes import allowed_changes, refuse_another_run, refuse_unknown_names, saved_settings
from hfscale.runs.lock import LOCK, RunLock
from hfscale.runs.machines import with_earlier
from hfscale.schemas import HubSettings, TrainSettings
from hfscale.training.checkpoint_files import (
    BrokenCheckpoint,
    Checkpoint,
    best_folder,
    checkpoint_folders,
    newest_valid,
    read_checkpoint,
)

if TYPE_CHECKING:
    from accelerate import Accelerator

SLURM = "slurm"
_PROBE = ".hfscale-"
_lock: RunLock | None = None
"""The one that this process holds."""


@dataclass
class Run:
    """A run folder that this process and its neighbours own."""

    folder: Path
    settings: dict[str, Any]
    """By dotted name, with what the launcher chose."""
    checkpoint: Checkpoint | None
    """What to go on from."""
    changes: dict[str, list[Any]] = field(default_factory=dict)
    """Settings that change the mathematics from there on, as [before, now]."""

    def still_ours(self) -> None:
        """Raises `RunFolderError` where another process has taken the run over."""
        if _lock is not None:
            _lock.check()


def claim(config: Any, accelerator: Accelerator) -> Run:
    """Take the run folder for this run, from now to the end of the process, and find what to go on from.

    The first process looks, all others do as it does.

    Raises:
        AlreadyDone: where the folder holds this very run, complete.
        RunFolderError: where it holds something else, can't be written, or is in use.
        SettingsError: where it holds a run with other settings that change the mathematics.
        HubError: for a new run that couldn't be pushed to `hub.repo_id`.
    """
    found: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            found[0] = _claim(resolved(config, accelerator))
        except HfscaleError as error:
            found[1] = error
    if accelerator.num_processes > 1:
        from accelerate.utils import broadcast_object_list

        broadcast_object_list(found)
    run, error = found
    if error is not None and accelerator.is_main_process:
        raise error
    if error is not None:
        raise SystemExit(error.exit_status)  # said by the first process
    return run


def resolved(config: Any, accelerator: Accelerator) -> Any:
    """The settings with what the launcher chose."""
    precision = "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision
    return dataclasses.replace(config, train=dataclasses.replace(config.train, precision=precision))


def _claim(config: Any) -> Run:
    train: TrainSettings = config.train
    folder = Path(train.output_dir)
    settings = flat_settings(config)
    refuse_unknown_names(settings, train)
    _refuse_other_things(folder, train)
    _acquire(folder)
    clear_leftovers(folder)
    clear_leftovers(folder / "checkpoints")
    hub: HubSettings | None = getattr(config, "hub", None)  # not every training is a recipe's
    begun = (folder / "config.yaml").is_file()
    if done := finished(folder):
        refuse_another_run(settings, saved_settings(folder), folder)
        pushing = f"; `hfscale push {folder} --repo {hub.repo_id}` uploads it" if hub else ""
        raise AlreadyDone(f"done       {folder} holds this run already, {done}{pushing}")
    checkpoint, broken = newest_valid(folder)
    for path, reason in broken.items():
        console.warn(f"{path} {reason}; passed over")
    changes: dict[str, list[Any]] = {}
    if begun and checkpoint is None:
        allowed_changes(settings, saved_settings(folder), folder, train)
    if checkpoint is not None:
        changes = allowed_changes(settings, checkpoint.state()["settings"], checkpoint.folder, train)
    elif train.resume not in ("auto", "never"):
        if begun and saved_settings(folder).get("train.resume") != train.resume:
            raise RunFolderError(f"{folder} holds another run; choose another --train.output_dir")
        checkpoint = _of_another_run(Path(train.resume))
        changes = allowed_changes(settings, checkpoint.state()["settings"], checkpoint.folder, train)
    elif begun:
        console.say(f"restarted  from the beginning: {folder} holds no {'valid ' if broken else ''}checkpoint")
    if hub is not None:
        _ask_hub(hub, goes_on=checkpoint is not None)
    return Run(folder, settings, checkpoint, changes)


def _ask_hub(hub: HubSettings, goes_on: bool) -> None:
    """A run that could not be pushed is not begun; one that goes on is not lost for it, and can be pushed later."""
    try:
        found = check_access(hub)
    except HubError as error:
        if not goes_on:
            raise HubError(f"{error} (or leave out --hub, and push later: `hfscale push`)") from None
        return console.warn(f"{error}; the run goes on, and can be pushed when it is complete: `hfscale push`")
    there = "is there" if found.exists else "is free"
    console.say(f"hub        {hub.repo_id} {there}, and {found.user} may push to it")


def _refuse_other_things(folder: Path, train: TrainSettings) -> None:
    """Whatever is no interrupted run of ours stays untouched."""
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{folder} is a file; choose another --train.output_dir")
    there = [path for path in folder.iterdir() if not _is_passing(path)] if folder.is_dir() else []
    way_out = "choose another --train.output_dir, or remove it first"
    if there and not (folder / "config.yaml").is_file():
        raise RunFolderError(f"{folder} is not empty, and holds no run; {way_out}")
    if there and train.resume == "never":
        state = f"a finished run, {finished(folder)}" if finished(folder) else "a run that has not finished"
        raise RunFolderError(f"{folder} holds {state}; {way_out}, or let it go on: --train.resume auto")
    parent = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=parent, prefix=_PROBE) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
    except OSError as error:
        raise RunFolderError(
            f"can't write run folder {folder}: {error.strerror or error}; choose another --train.output_dir"
        ) from None


def _is_passing(path: Path) -> bool:
    """What a process leaves for a moment, or for good if it is killed then; what a job has before its run begins."""
    return (
        path.name in (LOCK, SLURM) or path.name.startswith(_PROBE) or (path.name[0] == "." and path.suffix == ".tmp")
    )


def _acquire(folder: Path) -> None:
    """Make the folder and lock it; what was made goes again at the end if nothing was put in."""
    global _lock
    if _lock is not None:
        _lock.release()
    made = [place for place in (folder, *folder.absolute().parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = RunLock(folder)

    def release() -> None:
        lock.release()
        with contextlib.suppress(OSError):
            for place in made:
                place.rmdir()  # succeeds on empty folders only

    try:
        lock.acquire()
    except BaseException:
        release()
        raise
    _lock = lock
    atexit.register(release)


def finished(folder: Path) -> str | None:
    """What a complete run came to; None for one that is not."""
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        if not result.get("complete", True):
            return None
        metrics = ", ".join(f"{name} {value:.3f}" for name, value in list(result["metrics"].items())[:1])
        best = result.get("best_step")
        chosen = f", the best at step {best}" if best not in (None, result["steps"]) else ""
        return f"{metrics + ' ' if metrics else ''}after {result['steps']} steps{chosen}"
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def _of_another_run(source: Path) -> Checkpoint:
    """A checkpoint by its own folder, or the newest one of a run's folder."""
    if not source.is_dir():
        there = ", ".join(path.name for path in checkpoint_folders(source.parent.parent))
        raise RunFolderError(f"--train.resume {source}: no such folder{f'; there are {there}' if there else ''}")
    if (source / "checkpoints").is_dir():
        checkpoint, broken = newest_valid(source)
        if checkpoint is None:
            reasons = "; ".join(f"{path.name} {reason}" for path, reason in broken.items())
            reasons = f": {reasons}" if reasons else ""
            raise RunFolderError(f"--train.resume {source} holds no valid checkpoint{reasons}")
    else:
        try:
            checkpoint = read_checkpoint(source)
        except BrokenCheckpoint as reason:
            raise RunFolderError(f"--train.resume {source} {reason}") from None
    return checkpoint


@contextlib.contextmanager
def open_run(run: Run, config: Any, environment: dict[str, Any], accelerator: Accelerator) -> Generator[None]:
    """Write settings and environment into the run folder; they vanish again if the run fails before its first logged
    step."""
    path = run.folder
    try:
        if accelerator.is_main_process:
            before = _trunk(run)
            save_config(resolved(config, accelerator), path / "config.yaml")
            if run.checkpoint is not None:
                environment = with_earlier(environment, run.checkpoint.folder.parent.parent)
            write_json(path / "environment.json", environment)
            if before:
                _copy(*before, path)
        accelerator.wait_for_everyone()
        yield
    except BaseException:
        if accelerator.is_main_process:
            with contextlib.suppress(OSError, RunFolderError):
                run.still_ours()
                _clear_unless_begun(path)
        raise


def _trunk(run: Run) -> tuple[Path, dict[str, Any]] | None:
    """The run of which this one is a branch, and the state of the checkpoint; None for a run that is no branch."""
    origin = run.checkpoint.folder.parent.parent if run.checkpoint else run.folder
    if run.checkpoint is None or origin.resolve() == run.folder.resolve():
        return None
    try:
        return origin, run.checkpoint.state()
    except FileNotFoundError:
        raise RunFolderError(f"{run.checkpoint.folder} is gone: its run goes on, and keeps newer ones") from None


def _copy(origin: Path, state: dict[str, Any], folder: Path) -> None:
    """A branch has the metrics and the best model of the trunk, too."""
    if (origin / "metrics.jsonl").is_file():
        (folder / "metrics.jsonl").write_bytes((origin / "metrics.jsonl").read_bytes()[: state["metrics_bytes"]])
    best = state["best"]["step"]
    if best is not None and best_folder(origin, best).is_dir():
        shutil.copytree(best_folder(origin, best), best_folder(folder, best), dirs_exist_ok=True)


def _clear_unless_begun(path: Path) -> None:
    if (path / "metrics.jsonl").exists() or checkpoint_folders(path):
        return
    for inside in path.iterdir():
        if inside.name not in (LOCK, SLURM):
            shutil.rmtree(inside) if inside.is_dir() else inside.unlink()
