"""The run that a command is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hfscale.errors import ModelError


def run_config(folder: Path) -> dict[str, Any]:
    """The run's settings; empty for a bare model folder."""
    import yaml

    path = folder / "config.yaml"
    return (yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None) or {}


def find_model(folder: Path) -> Path:
    """The model folder of a run folder, or the model folder that was given.

    Raises:
        ModelError: where there is no such folder, or its run has not finished.
    """
    if not folder.is_dir():
        raise ModelError(f"no such folder: {folder}")
    if (folder / "model").is_dir():
        return folder / "model"
    if run_config(folder):
        raise ModelError(f"the run in {folder} has not finished{_best_so_far(folder)}")
    return folder


def _best_so_far(run: Path) -> str:
    from hfscale.training.checkpoint_files import best_folders

    best = best_folders(run)
    return f"; its best model so far is in {best[0]}" if best else ""
