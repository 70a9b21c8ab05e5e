"""Metrics as `evaluate.Metric` modules that need no network; the arithmetic is scikit-learn's and SciPy's."""

from __future__ import annotations

import math
from typing import Any

import datasets
import evaluate
import numpy as np
from scipy import stats
from sklearn import metrics as sk

from hfscale.schemas import ProblemType

_CLASS = datasets.Value("int64")
_CLASSES = datasets.List(datasets.Value("int64"))
_NUMBER = datasets.Value("float64")


class _Metric(evaluate.Metric):
    """An `evaluate.Metric` that describes itself from its docstring and keeps what it is given in memory."""

    value: Any = _CLASS

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__doc__ or "",
            citation="",
            inputs_description="predictions and references, one per example",
            features=datasets.Features({"predictions": self.value, "references": self.value}),
        )


class Accuracy(_Metric):
    """Share of examples whose predicted class is the right one."""

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"accuracy": float(sk.accuracy_score(references, predictions))}


class F1(_Metric):
    """F1 of the second of two classes (as GLUE counts it), or the mean over all classes that occur."""

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        self._average: Any = "binary" if num_labels == 2 else "macro"

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        zero: Any = 0.0
        return {"f1": float(sk.f1_score(references, predictions, average=self._average, zero_division=zero))}


class MatthewsCorrelation(_Metric):
    """Matthews' correlation coefficient, in [-1, 1]; 0 for a constant prediction."""

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"matthews_correlation": float(sk.matthews_corrcoef(references, predictions))}


class MultiLabelF1(_Metric):
    """F1 over all decisions, its mean over labels, and the share of examples with every label right."""

    value = _CLASSES

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        p, r = np.asarray(predictions), np.asarray(references)
        micro: Any = "micro"
        macro: Any = "macro"
        zero: Any = 0.0
        return {
            "f1_micro": float(sk.f1_score(r, p, average=micro, zero_division=zero)),
            "f1_macro": float(sk.f1_score(r, p, average=macro, zero_division=zero)),
            "subset_accuracy": float((p == r).all(axis=1).mean()),
        }


class Correlation(_Metric):
    """Pearson's and Spearman's correlation, and the mean squared error; a correlation with a constant is NaN."""

    value = _NUMBER

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        p, r = np.asarray(predictions), np.asarray(references)
        mse = float(np.mean((p - r) ** 2))
        if len(p) < 2 or np.ptp(p) == 0 or np.ptp(r) == 0:
            return {"pearson": math.nan, "spearman": math.nan, "mse": mse}
        return {
            "pearson": _statistic(stats.pearsonr(p, r)),
            "spearman": _statistic(stats.spearmanr(p, r)),
            "mse": mse,
        }


def _statistic(result: Any) -> float:
    return float(result.statistic)


def _metrics(problem_type: ProblemType, num_labels: int) -> list[_Metric]:
    if problem_type == "single_label_classification":
        return [Accuracy(), F1(num_labels), MatthewsCorrelation()]
    return [MultiLabelF1()] if problem_type == "multi_label_classification" else [Correlation()]


def compute_metrics(problem_type: ProblemType, predictions: Any, references: Any, num_labels: int) -> dict[str, float]:
    """All metrics of a task with `num_labels` outputs, the main one first, from decoded predictions (see `decode`) and
    targets."""
    values: dict[str, float] = {}
    for metric in _metrics(problem_type, num_labels):
        values.update(metric.compute(predictions=predictions, references=references) or {})
    return values


def decode(problem_type: ProblemType, logits: np.ndarray) -> np.ndarray:
    """Predictions from (examples, outputs) logits: class numbers, 0/1 per label at probability 0.5, or numbers."""
    if problem_type == "single_label_classification":
        return logits.argmax(axis=-1)
    if problem_type == "multi_label_classification":
        return (logits > 0).astype(np.int64)
    return logits[:, 0].astype(np.float64)
