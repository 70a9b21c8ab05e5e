"""What a run did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from hfscale.training.communication import Communication


class FitResult(NamedTuple):
    """What a run did."""

    steps: int
    epochs: float
    train_seconds: float
    """Seconds of training; evaluation, logging and saving left out."""
    samples_per_second: float
    tokens_per_second: float | None
    """Real tokens, padding left out; None for images."""
    samples_per_second_per_process: float
    """On each GPU, where there are some."""
    communication: Communication | None
    """What one step exchanged with other processes, and how well the run scales; None for one process."""
    matmul_peak_fraction: float | None
    """Share of the measured matrix-multiply peak that the model's own work reached; None where it can't be counted."""
    best_step: int | None
    """Step whose weights the model has now; None where nothing was evaluated."""
    stopped_early: bool
    resumed_from: str | None
    """Name of the checkpoint that this process went on from."""
    changed_settings: list[dict[str, Any]]
    """What was changed in mid-run, and after which step; empty but for `train.allow_changes`."""
