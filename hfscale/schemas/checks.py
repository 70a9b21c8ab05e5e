"""What settings check themselves with."""

from __future__ import annotations

from collections.abc import Collection


def require(condition: bool, message: str) -> None:
    """Raise `ValueError`, which ends a recipe in one line, unless the condition holds."""
    if not condition:
        raise ValueError(message)


def require_measured(metric: str | None, measured: Collection[str], where: str = "here") -> None:
    """Raise `ValueError` unless `train.best_metric` is one that is measured, or left to the default."""
    require(
        metric is None or metric in measured,
        f"--train.best_metric {metric} is not measured {where}; there are {', '.join(measured)}",
    )
