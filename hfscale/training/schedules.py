"""The learning rate as a function of the step: no object, nothing to save, nothing that ticks once per process."""

from __future__ import annotations

import math

from hfscale.schemas import OptimSettings, TrainSettings

_DEFAULT_EPOCHS = 3.0


def learning_rate(step: int, total_steps: int, settings: OptimSettings) -> float:
    """Learning rate of optimizer step `step` (from 0) in a run of `total_steps`.

    Warm-up rises linearly from `lr / warmup` at step 0 to `lr`, so that no step is wasted on a rate of zero. After it,
    `linear` and `cosine` (Loshchilov and Hutter 2017, eq. 5, without restarts) would reach zero at `total_steps`.
    """
    warmup = warmup_steps(settings, total_steps)
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, total_steps - warmup)
    if settings.schedule == "linear":
        return settings.lr * max(0.0, 1.0 - progress)
    if settings.schedule == "cosine":
        return settings.lr * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
    return settings.lr


def warmup_steps(settings: OptimSettings, total_steps: int) -> int:
    """Optimizer steps of warm-up: as given, or the given fraction of the run."""
    given = settings.warmup_steps
    return int(given) if given >= 1 else math.ceil(given * total_steps)


def num_steps(train: TrainSettings, steps_per_epoch: int) -> int:
    """Optimizer steps of the whole run."""
    if train.max_steps:
        return train.max_steps
    epochs = _DEFAULT_EPOCHS if train.epochs is None else train.epochs
    return max(1, math.ceil(epochs * steps_per_epoch))
