"""Where a run's model is, and what the run was told."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from hfscale.errors import ModelError
from hfscale.schemas import ModelSettings
from hfscale.training.checkpoint_files import best_folders


def model_folder_of(folder: Path) -> Path:
    """The model folder of a run folder, or the folder itself where it is none.

    Raises:
        ModelError: where there is no such folder, or the run in it has not finished.
    """
    if not folder.is_dir():
        raise ModelError(f"no such folder: {folder}")
    if (folder / "model").is_dir():
        return folder / "model"
    if settings_of(folder):
        best = best_folders(folder)
        so_far = f"; its best model so far is in {best[0]}" if best else ""
        raise ModelError(f"the run in {folder} has not finished{so_far}")
    return folder


def settings_of(folder: Path) -> dict[str, Any]:
    """The settings of the run in a folder; empty where it holds none."""
    import yaml

    path = folder / "config.yaml"
    return (yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None) or {}


def settings_around(folder: Path) -> dict[str, Any]:
    """As `settings_of`, of the run that the folder is, is a part of, or was made from."""
    run = run_around(folder)
    return settings_of(run) if run else {}


def data_around(folder: Path) -> dict[str, Any]:
    """Settings of the data that a model was trained on: those of the run around its folder, or else as many as
    `export.json` in it has (`prefix`, `max_length`)."""
    found = settings_around(folder).get("data")
    if not found:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            found = json.loads((folder / "export.json").read_text(encoding="utf-8")).get("reads")
    return found if isinstance(found, dict) else {}


def run_around(folder: Path) -> Path | None:
    """The run that a folder is, is a part of, or was made from (see `run_name`)."""
    for each in (folder, *folder.resolve().parents[:2]):
        if settings_of(each):
            return each
    noted = folder / _noted_run(folder)
    return noted if settings_of(noted) else None


def run_name(made: Path, run: Path | None) -> str | None:
    """How a folder that was made from a run may call it: by the way from the one to the other where they are
    neighbours; else that is not said, for it would tell the world about this machine's folders."""
    if run is None:
        return None
    run, made = run.resolve(), made.resolve()
    if run in made.parents[:2] or run.parent == made.parent:
        return os.path.relpath(run, made)
    return None


def _noted_run(folder: Path) -> str:
    """What `prune.json` or `export.json` says by `run_name`; a name that leads nowhere where there is none."""
    for name in ("prune.json", "export.json"):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            run = json.loads((folder / name).read_text(encoding="utf-8")).get("run")
            if isinstance(run, str) and not os.path.isabs(run):
                return run
    return "."


def base_of_run(folder: Path) -> ModelSettings | None:
    """The model that the run around a model folder started from; None where that isn't known."""
    found = settings_around(folder).get("model") or {}
    return ModelSettings(name=found["name"], revision=found.get("revision")) if found.get("name") else None
