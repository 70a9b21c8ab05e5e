"""Where a run's model is, and what the run was told."""

from __future__ import annotations

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
    """As `settings_of`, of the run that the folder is, or is a part of."""
    return next(filter(None, map(settings_of, (folder, *folder.resolve().parents[:2]))), {})


def base_of_run(folder: Path) -> ModelSettings | None:
    """The model that the run around a model folder started from; None where that isn't known."""
    found = settings_around(folder).get("model") or {}
    return ModelSettings(name=found["name"], revision=found.get("revision")) if found.get("name") else None
