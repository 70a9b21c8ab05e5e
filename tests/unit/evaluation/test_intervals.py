"""Intervals agree with other libraries', and with resampling the examples one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from hfscale.evaluation.intervals import Scores, _draw, _of_classes, example_intervals, share_intervals, wilson
from hfscale.evaluation.metrics import _METRICS, compute_metrics
from hfscale.schemas import Task

RANDOM = np.random.default_rng(1)


@pytest.mark.parametrize(("right", "number"), [(0, 7), (7, 7), (224, 255), (1, 2)])
def test_shares_by_wilson(right: int, number: int) -> None:
    expected = binomtest(right, number).proportion_ci(method="wilson")
    assert wilson(right / number, number)[:2] == pytest.approx((expected.low, expected.high), abs=1e-12)


def tags(number: int) -> list[list[str]]:
    return [RANDOM.choice(["O", "B-X", "I-X", "B-Y"], size=5).tolist() for _ in range(number)]


def examples(task: Task, number: int) -> tuple[Any, Any, int]:
    right: Any = RANDOM.integers(4, size=number)
    if task == "single_label_classification":
        return np.where(RANDOM.random(number) < 0.7, right, 0), right, 4
    if task == "multi_label_classification":
        right = RANDOM.integers(2, size=(number, 3))
        return np.where(RANDOM.random((number, 3)) < 0.8, right, 1 - right), right, 3
    if task == "regression":
        return right + RANDOM.normal(size=number), right.astype(float), 1
    if task == "token_classification":
        right = tags(number)
        return (
            [one if RANDOM.random() < 0.6 else other for one, other in zip(right, tags(number), strict=True)],
            right,
            4,
        )
    words = ["red car", "car", "blue car", "tree"]
    given = [words[n] if RANDOM.random() < 0.5 else words[0] for n in right]
    return given, [[words[n]] for n in right], 1


TASKS: list[Task] = [
    "single_label_classification", "multi_label_classification", "regression", "token_classification",
    "question_answering",
]  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_as_resampling_one_by_one(task: Task) -> None:
    predictions, references, num_labels = examples(task, 120)
    values = compute_metrics(task, predictions, references, num_labels)
    found = example_intervals(task, values, predictions, references, num_labels)
    assert list(found) == list(values)
    drawn: dict[str, list[float]] = {name: [] for name in values}
    for _ in range(150):
        rows = RANDOM.integers(120, size=120)
        given, right = ([each[row] for row in rows] for each in (predictions, references))
        for metric in _METRICS[task](num_labels):  # without its checks, which take most of the time
            for name, value in metric._compute(predictions=given, references=right).items():
                drawn[name].append(value)
    for name, (low, high, method) in found.items():
        assert low < values[name] < high
        assert method == (
            "wilson" if name in ("accuracy", "subset_accuracy", "exact_match") and task != TASKS[3] else "bootstrap"
        )
        expected = np.quantile(drawn[name], [0.025, 0.975])
        assert [low, high] == pytest.approx(expected, abs=0.4 * (high - low)), name
        assert high - low == pytest.approx(expected[1] - expected[0], rel=0.3), name


@pytest.mark.parametrize("num_labels", [2, 3])
def test_counts_give_the_metrics_of_the_examples_that_they_count(num_labels: int) -> None:
    predictions, references = RANDOM.integers(num_labels, size=(2, 30))
    kinds, weights = _draw(np.stack([predictions, references], axis=1))
    drawn = _of_classes(predictions, references, num_labels)
    for row in (0, 1, 2):
        given, right = np.repeat(kinds, weights[row].astype(int), axis=0).T
        expected = compute_metrics("single_label_classification", given, right, num_labels)
        assert [drawn[name][row] for name in drawn] == pytest.approx([expected[name] for name in drawn], abs=1e-12)


def test_what_is_not_known_has_none() -> None:
    right, values = np.zeros(5, int), {"accuracy": 1.0, "f1": 0.0, "matthews_correlation": 0.0}
    assert list(example_intervals("single_label_classification", values, right, right, 2)) == ["accuracy"]
    one = example_intervals("regression", {"mse": 0.0}, np.zeros(1), np.zeros(1), 1)
    assert one == {} and share_intervals({"loss": 1.0}, 4) == {} and share_intervals({"accuracy": 1.0}, 0) == {}


def test_joined_scores_keep_what_they_know() -> None:
    joined = {"loss": 1.0} | Scores({"stopped": 0.5}, lambda: share_intervals({"stopped": 0.5}, 4))
    assert joined == {"loss": 1.0, "stopped": 0.5}
    assert isinstance(joined, Scores) and list(joined.intervals()) == ["stopped"]
