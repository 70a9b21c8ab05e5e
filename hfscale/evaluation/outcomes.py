"""What came of a model on held-out rows, row by row: enough to say how sure its metrics are."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from hfscale.evaluation.intervals import Scores, example_intervals
from hfscale.evaluation.metrics import compute_metrics, one_metric
from hfscale.schemas import Task

RESAMPLES = 100
_FEWEST_ROWS = 8


class Outcome(Protocol):
    """Of a model of any kind."""

    @property
    def num_rows(self) -> int: ...

    def metrics(self) -> dict[str, float]:
        """The main one first."""
        ...

    def metric_of(self, name: str, rows: np.ndarray) -> float:
        """One of them on these rows alone."""
        ...


class Answers(NamedTuple):
    """A classifier's, one for each text, sentence or question."""

    task: Task
    given: Any
    right: Any
    num_labels: int
    loss: float
    """The mean of all targets."""
    losses: np.ndarray | None = None
    """(rows,) means of each; None where rows were cut up before they were read."""

    @property
    def num_rows(self) -> int:
        return len(self.given)

    def metrics(self) -> Scores:
        """Metrics of the task, the main one first, and the mean `loss`."""
        values = compute_metrics(self.task, self.given, self.right, self.num_labels)
        intervals = partial(example_intervals, self.task, values, self.given, self.right, self.num_labels)
        return Scores({**values, "loss": self.loss}, intervals)

    def metric_of(self, name: str, rows: np.ndarray) -> float:
        """One of them on these rows alone; NaN for a loss that isn't known row by row."""
        if name == "loss":
            return math.nan if self.losses is None else float(self.losses[rows].mean())
        return one_metric(self.task, name, _taken(self.given, rows), _taken(self.right, rows), self.num_labels)


class Losses(NamedTuple):
    """A language model's, one for each batch."""

    sums: np.ndarray
    """(batches, 2): sum of the losses, number of targets."""
    tokens_per_byte: float

    @property
    def num_rows(self) -> int:
        return len(self.sums)

    def metrics(self) -> dict[str, float]:
        """`bits_per_byte`, `perplexity` and mean `loss` per target."""
        loss, targets = self.sums.sum(axis=0).tolist()
        return language_metrics(loss / max(1.0, targets), self.tokens_per_byte)

    def metric_of(self, name: str, rows: np.ndarray) -> float:
        """One of them on these batches alone."""
        return Losses(self.sums[rows], self.tokens_per_byte).metrics()[name]


def language_metrics(loss: float, tokens_per_byte: float) -> dict[str, float]:
    """Of the mean loss per target, in nats."""
    return {"bits_per_byte": loss * tokens_per_byte / math.log(2), "perplexity": perplexity_of(loss), "loss": loss}


def perplexity_of(loss: float) -> float:
    """Of the mean loss per target, in nats."""
    return math.exp(loss) if loss < 700 else math.inf


def resampled(outcome: Outcome, metric: str) -> np.ndarray:
    """(resamples,) values of a metric on rows drawn with replacement (the bootstrap of Efron 1979).

    Which rows are drawn depends on their number alone: for two models on the same rows the differences of these values
    spread as the difference of the two metrics does. Empty where there are too few rows to tell.
    """
    count = outcome.num_rows
    if count < _FEWEST_ROWS:
        return np.empty(0)
    draw = np.random.default_rng(0)
    return np.array([outcome.metric_of(metric, draw.integers(count, size=count)) for _ in range(RESAMPLES)])


def standard_error(values: np.ndarray) -> float | None:
    """Their standard deviation; None where it isn't known."""
    return float(values.std(ddof=1)) if len(values) and np.isfinite(values).all() else None


def _taken(values: Any, rows: np.ndarray) -> Any:
    return values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]
