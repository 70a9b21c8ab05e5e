"""How sure a score on held-out examples is: what other examples of the same kind might have given.

The range is of the examples alone. How far another seed's training would have come is not in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.sparse import csr_array
from seqeval.metrics.sequence_labeling import get_entities

from hfscale.evaluation.metrics import AnswerF1, Correlation
from hfscale.schemas import Task

LEVEL = 0.95
_NORMAL = 1.959963984540054  # quantile of the standard normal distribution at 0.975
_RESAMPLES = 1_000
_MOST = 20_000
"""Examples whose resampling takes seconds; the range of more is narrow, and not worth the wait."""
_SHARES = ("accuracy", "subset_accuracy", "exact_match", "stopped")
"""Metrics that count examples."""
_FEWEST = 2


class Interval(NamedTuple):
    """95% of a metric's range."""

    low: float
    high: float
    method: Literal["wilson", "bootstrap"]


class Scores(dict[str, float]):
    """Metrics by name, the main one first, that know how sure they are."""

    def __init__(self, values: Mapping[str, float], intervals: Callable[[], dict[str, Interval]]) -> None:
        super().__init__(values)
        self._intervals = intervals

    def __ror__(self, others: Any) -> Scores:  # type: ignore[override]
        """`others | self`, with what is known of these."""
        return Scores({**others, **self}, self._intervals)

    def intervals(self) -> dict[str, Interval]:
        """Of those metrics of which it can be said; takes seconds, so that not every evaluation asks."""
        return self._intervals()


def wilson(share: float, number: int) -> Interval:
    """The interval of a share of `number` independent examples (Wilson 1927); within [0, 1], also near the ends."""
    squared = _NORMAL**2 / number
    centre = (share + squared / 2) / (1 + squared)
    half = _NORMAL / (1 + squared) * math.sqrt(share * (1 - share) / number + squared / (4 * number))
    return Interval(max(0.0, centre - half), min(1.0, centre + half), "wilson")


def share_intervals(values: Mapping[str, float], number: int) -> dict[str, Interval]:
    """Of those metrics that count examples, of which there were `number`."""
    return {name: wilson(values[name], number) for name in _SHARES if name in values and number}


def example_intervals(
    task: Task, values: Mapping[str, float], predictions: Any, references: Any, num_labels: int
) -> dict[str, Interval]:
    """Of all metrics of `compute_metrics`: those that count examples by Wilson, the others by the percentiles of 1,000
    bootstrap resamples of the examples, sentences or questions (Efron & Tibshirani 1993, section 13.3).

    A metric that is not a number in some resample, as a correlation with a constant, or the same in all, has none.
    """
    number = len(references)
    # The words of a sentence are no examples on their own.
    found = {} if task == "token_classification" else share_intervals(values, number)
    if not _FEWEST <= number <= _MOST:
        return found
    for name, drawn in _RESAMPLED[task](predictions, references, num_labels).items():
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        if math.isfinite(low) and low < high:
            found[name] = Interval(float(low), float(high), "bootstrap")
    return {name: found[name] for name in values if name in found}


# Each gives the metrics of all resamples, the same as `compute_metrics` gives them (tested), but from counts of equal
# examples, of which there are few.


def _of_classes(predictions: Any, references: Any, num_labels: int) -> dict[str, np.ndarray]:
    kinds, weights = _draw(np.stack([predictions, references], axis=1))
    width, rows = int(kinds.max()) + 1, np.arange(len(kinds))
    in_class = [csr_array((np.ones(len(kinds)), (rows, column)), shape=(len(kinds), width)) for column in kinds.T]
    given, right = (weights @ each for each in in_class)  # (resamples, classes)
    hits = (weights * (kinds[:, 0] == kinds[:, 1])) @ in_class[1]
    number = weights.sum(axis=1)
    f1 = _ratio(2 * hits, given + right)
    spread = (number**2 - (given**2).sum(axis=1)) * (number**2 - (right**2).sum(axis=1))
    agreement = hits.sum(axis=1) * number - (given * right).sum(axis=1)
    if num_labels == 2:
        mean = f1[:, 1] if width == 2 else np.zeros(len(f1))
    else:  # over the classes that occur
        mean = f1.sum(axis=1) / (given + right > 0).sum(axis=1)
    return {"f1": mean, "matthews_correlation": _ratio(agreement, np.sqrt(spread))}


def _of_label_sets(predictions: Any, references: Any, _: int) -> dict[str, np.ndarray]:
    kinds, weights = _draw(np.stack([predictions, references], axis=1))
    hits = weights @ (kinds[:, 0] * kinds[:, 1])  # (resamples, labels)
    both = weights @ (kinds[:, 0] + kinds[:, 1])
    return {
        "f1_micro": _ratio(2 * hits.sum(axis=1), both.sum(axis=1)),
        "f1_macro": _ratio(2 * hits, both).mean(axis=1),
    }


def _of_numbers(predictions: Any, references: Any, _: int) -> dict[str, np.ndarray]:
    random, number = np.random.default_rng(0), len(references)
    rows = (random.integers(number, size=number) for _ in range(_RESAMPLES))
    drawn = [Correlation()._compute(predictions[row], references[row]) for row in rows]
    return {name: np.array([each[name] for each in drawn]) for name in drawn[0]}


def _of_tags(predictions: Any, references: Any, _: int) -> dict[str, np.ndarray]:
    counts = []
    for given, right in zip(predictions, references, strict=True):
        ours, theirs = (set(get_entities(tags)) for tags in (given, right))
        same = sum(one == other for one, other in zip(given, right, strict=True))
        counts.append([len(ours & theirs), len(ours), len(theirs), same, len(right)])
    kinds, weights = _draw(np.array(counts))
    hits, given, right, same, number = (weights @ kinds).T
    found = {"f1": _ratio(2 * hits, given + right), "precision": _ratio(hits, given), "recall": _ratio(hits, right)}
    return found | {"accuracy": _ratio(same, number)}


def _of_answers(predictions: Any, references: Any, _: int) -> dict[str, np.ndarray]:
    pairs = zip(predictions, references, strict=True)
    f1 = np.array([AnswerF1()._compute([given], [right])["f1"] for given, right in pairs])
    random = np.random.default_rng(0)
    return {"f1": np.array([f1[random.integers(len(f1), size=len(f1))].mean() for _ in range(_RESAMPLES)])}


_RESAMPLED: dict[Task, Callable[[Any, Any, int], dict[str, np.ndarray]]] = {
    "single_label_classification": _of_classes,
    "multi_label_classification": _of_label_sets,
    "regression": _of_numbers,
    "token_classification": _of_tags,
    "question_answering": _of_answers,
}


def _draw(examples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the examples that differ, how often each is in each resample): drawing the numbers of equal ones at once is the
    same as drawing one by one."""
    kinds, counts = np.unique(examples, axis=0, return_counts=True)
    number = int(counts.sum())
    return kinds, np.random.default_rng(0).multinomial(number, counts / number, size=_RESAMPLES).astype(np.float64)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """0 where there is nothing to take a part of."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
