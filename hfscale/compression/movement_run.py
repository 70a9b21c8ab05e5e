"""The training that movement pruning learns by: a run of its own, which goes on where it was interrupted."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfscale import console, runs, training
from hfscale.compression.movement import MovementPruning
from hfscale.compression.pruning_data import RunData
from hfscale.errors import DataError, RunFolderError, SettingsError
from hfscale.runs.lock import LOCK
from hfscale.schemas import OptimSettings, PruneSettings, TrainSettings
from hfscale.training.schedules import num_steps

if TYPE_CHECKING:
    from accelerate import Accelerator

_SAME = ("seed", "global_batch_size", "micro_batch_size", "activation_checkpointing", "log_steps", "stall_seconds")
_FEW_STEPS = 500
"""Fewer left a pretrained encoder that guesses, in `docs/prune.md`; the CNN did well with 1,230."""


@dataclass(frozen=True, kw_only=True)
class _Config:
    """What the training depends on, for who goes on with it."""

    model: dict[str, str]
    """Name of each file of weights -> sha256."""
    data: dict[str, Any]
    sparsity: float
    optim: OptimSettings
    train: TrainSettings


def learn_what_goes(
    accelerator: Accelerator,
    model: Any,
    model_folder: Path,
    data: RunData,
    settings: dict[str, Any],
    how: PruneSettings,
    folder: Path,
) -> int:
    """Fine-tune `model` in place for `how.epochs` with the run's own settings, while weights go; returns the steps.

    Args:
        settings: of the run.
        folder: where checkpoints go; `forget` clears it.

    Raises:
        Interrupted: where it was told to stop; the same call goes on from there.
        RunFolderError, SettingsError: where `folder` holds another training.
    """
    config = _config(model_folder, settings, how, folder)
    try:
        run = runs.claim(config, accelerator)
    except (RunFolderError, SettingsError) as error:
        raise RunFolderError(
            f"{folder} holds another training, or can't be written; remove it, or choose another --output ({error})"
        ) from None
    train = config.train
    batches = data.train_batches(
        seed=train.seed, global_batch_size=train.global_batch_size, micro_batch_size=train.micro_batch_size
    )
    steps = num_steps(train, batches.steps_per_epoch)
    console.say(f"movement   {steps} steps of training, in which {how.sparsity:.0%} of each layer's weights go")
    if steps < _FEW_STEPS:
        console.warn(
            f"in {steps} steps scores are mostly noise, and the model may end up guessing; give more --epochs, or "
            "choose --method magnitude"
        )
    pruning = MovementPruning(model, how.sparsity)
    optimizer = training.build_optimizer(model, config.optim)
    pruning.learn_with(optimizer)
    watched = pruning.during(batches, steps)
    with runs.open_run(run, config, {}, accelerator):
        training.fit(accelerator, model, optimizer, watched, data.loss_fn, config, run=run)
    pruning.finish()
    return steps


def forget(folder: Path) -> None:
    """Clear the checkpoints of a training that has come to its end; the folder goes with the process's lock on it."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name != LOCK:
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _config(model_folder: Path, settings: dict[str, Any], how: PruneSettings, folder: Path) -> _Config:
    own = settings.get("train") or {}
    try:
        return _Config(
            model={
                path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                for path in sorted(model_folder.glob("*.safetensors"))
            },
            data=settings["data"],
            sparsity=how.sparsity,
            optim=OptimSettings(**settings["optim"]),
            train=TrainSettings(
                output_dir=str(folder),
                epochs=how.epochs or how.default_epochs,
                preflight=False,
                **{name: own[name] for name in _SAME if name in own},
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"config.yaml doesn't say how the run was trained: {error}") from None
