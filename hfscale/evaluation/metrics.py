"""Metrics as `evaluate.Metric` modules that need no network; the arithmetic is that of scikit-learn, SciPy and
seqeval, for answers that of SQuAD's evaluation script."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable
from typing import Any

import datasets
import evaluate
import numpy as np
from scipy import stats
from seqeval.metrics import accuracy_score
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support
from sklearn import metrics as sk

from hfscale.schemas import Task

_CLASS = datasets.Value("int64")
_CLASSES = datasets.List(datasets.Value("int64"))
_NUMBER = datasets.Value("float64")
_TEXT = datasets.Value("string")


class _Metric(evaluate.Metric):
    """An `evaluate.Metric` that describes itself from its docstring and keeps what it is given in memory."""

    value: Any = _CLASS
    reference: Any = None
    """The type of a reference where it is not that of a prediction."""

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__doc__ or "",
            citation="",
            inputs_description="predictions and references, one per example",
            features=datasets.Features({"predictions": self.value, "references": self.reference or self.value}),
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


class EntityF1(_Metric):
    """Micro F1, precision and recall of entities, right where type, first and last word are, as conlleval.pl counts
    them (Tjong Kim Sang and Buchholz 2000), and the share of words with the right tag. Sentences are lists of IOB2 or
    BIOES tags."""

    value = datasets.List(_TEXT)

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        zero: Any = 0
        precision, recall, f1, _ = precision_recall_fscore_support(
            references, predictions, average="micro", zero_division=zero
        )
        accuracy = accuracy_score(references, predictions)
        values = {"f1": f1, "precision": precision, "recall": recall, "accuracy": accuracy}
        return {name: float(value) for name, value in values.items()}


class AnswerF1(_Metric):
    """F1 over the words of an answer, and the share of answers that are right as a whole; of several right answers
    the nearest counts (Rajpurkar et al. 2016, section 6.1). No right answer at all means that "" is right."""

    value = _TEXT
    reference = datasets.List(_TEXT)

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        pairs = [(given, right or [""]) for given, right in zip(predictions, references, strict=True)]
        return {
            "f1": float(np.mean([max(_word_f1(given, one) for one in right) for given, right in pairs])),
            "exact_match": float(
                np.mean([max(_words(given) == _words(one) for one in right) for given, right in pairs])
            ),
        }


def _words(answer: str) -> list[str]:
    """An answer's words without case, punctuation and articles, as SQuAD's evaluation script normalizes them."""
    bare = "".join(character for character in answer.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def _word_f1(given: str, right: str) -> float:
    given_words, right_words = _words(given), _words(right)
    if not given_words or not right_words:
        return float(given_words == right_words)
    common = sum((Counter(given_words) & Counter(right_words)).values())
    return 2 * common / (len(given_words) + len(right_words))


def _statistic(result: Any) -> float:
    return float(result.statistic)


_METRICS: dict[Task, Callable[[int], list[_Metric]]] = {
    "single_label_classification": lambda num_labels: [Accuracy(), F1(num_labels), MatthewsCorrelation()],
    "multi_label_classification": lambda _: [MultiLabelF1()],
    "regression": lambda _: [Correlation()],
    "token_classification": lambda _: [EntityF1()],
    "question_answering": lambda _: [AnswerF1()],
}


def compute_metrics(task: Task, predictions: Any, references: Any, num_labels: int) -> dict[str, float]:
    """All metrics of a task with `num_labels` outputs, the main one first, from decoded predictions (see `decode`) and
    targets; tags and answers are given as texts."""
    values: dict[str, float] = {}
    for metric in _METRICS[task](num_labels):
        values.update(metric.compute(predictions=predictions, references=references) or {})
    return values


def one_metric(task: Task, name: str, predictions: Any, references: Any, num_labels: int) -> float:
    """As `compute_metrics`, of one metric alone and without the tables that `evaluate` writes: fast enough to be asked
    hundreds of times."""
    for metric in _METRICS[task](num_labels):
        values = metric._compute(predictions=predictions, references=references)
        if name in values:
            return values[name]
    raise KeyError(name)


def decode(task: Task, logits: np.ndarray) -> np.ndarray:
    """Predictions for whole texts from (examples, outputs) logits: class numbers, 0/1 per label at probability 0.5, or
    numbers."""
    if task == "single_label_classification":
        return logits.argmax(axis=-1)
    if task == "multi_label_classification":
        return (logits > 0).astype(np.int64)
    return logits[:, 0].astype(np.float64)
