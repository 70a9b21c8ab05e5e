"""Metrics against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hfscale.evaluation import compute_metrics
from hfscale.evaluation.metrics import decode

SINGLE, SEVERAL, NUMBER = "single_label_classification", "multi_label_classification", "regression"


def test_two_classes() -> None:
    # right: tp 2, tn 1; wrong: fp 1, fn 1
    values = compute_metrics(SINGLE, [1, 1, 1, 0, 0], [1, 1, 0, 1, 0], 2)
    assert values["accuracy"] == pytest.approx(3 / 5)
    assert values["f1"] == pytest.approx(2 / 3)  # 2 tp / (2 tp + fp + fn)
    assert values["matthews_correlation"] == pytest.approx((2 * 1 - 1 * 1) / math.sqrt(3 * 3 * 2 * 2))


def test_more_classes_are_averaged() -> None:
    # f1: class 0 is 1, class 1 is 2/3, class 2 is 0
    values = compute_metrics(SINGLE, [0, 1, 1], [0, 1, 2], 3)
    assert values["accuracy"] == pytest.approx(2 / 3)
    assert values["f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_a_constant_prediction_says_nothing() -> None:
    values = compute_metrics(SINGLE, np.zeros(4, dtype=np.int64), np.array([0, 1, 0, 1]), 2)
    assert values == {"accuracy": 0.5, "f1": 0.0, "matthews_correlation": 0.0}


def test_several_labels() -> None:
    predictions = np.array([[1, 0, 0], [1, 1, 0]])
    references = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    values = compute_metrics(SEVERAL, predictions, references, 2)
    # tp 2, fp 1, fn 1; by label 2/3, 1, 0
    assert values["f1_micro"] == pytest.approx(2 / 3)
    assert values["f1_macro"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert values["subset_accuracy"] == 0.5


def test_no_label_anywhere_is_no_error() -> None:
    values = compute_metrics(SEVERAL, [[0, 0]], [[0, 0]], 2)
    assert values == {"f1_micro": 0.0, "f1_macro": 0.0, "subset_accuracy": 1.0}


def test_numbers() -> None:
    values = compute_metrics(NUMBER, [1.0, 2.0, 9.0], [2.0, 4.0, 6.0], 1)
    assert values["spearman"] == pytest.approx(1.0)
    assert values["mse"] == pytest.approx((1 + 4 + 9) / 3)
    assert values["pearson"] == pytest.approx(16 / math.sqrt(38 * 8))


@pytest.mark.parametrize(
    "predictions, references", [([1.0, 1.0], [1.0, 2.0]), ([1.0, 2.0], [3.0, 3.0]), ([1.0], [2.0])]
)
def test_a_correlation_with_a_constant_is_nan(predictions: list[float], references: list[float]) -> None:
    values = compute_metrics(NUMBER, predictions, references, 1)
    assert math.isnan(values["pearson"]) and math.isnan(values["spearman"]) and math.isfinite(values["mse"])


def test_logits_are_decoded() -> None:
    logits = np.array([[0.1, 2.0, -1.0], [3.0, -0.5, 0.5]], dtype=np.float32)
    assert decode(SINGLE, logits).tolist() == [1, 0]
    assert decode(SEVERAL, logits).tolist() == [[1, 1, 0], [1, 0, 1]]
    assert decode(NUMBER, logits[:, :1]).tolist() == pytest.approx([0.1, 3.0])


def test_f1_depends_on_the_classes_of_the_task_not_on_those_that_occur() -> None:
    assert compute_metrics(SINGLE, [1, 1], [0, 1], 2)["f1"] == pytest.approx(2 / 3)
    assert compute_metrics(SINGLE, [1, 1], [0, 1], 12)["f1"] == pytest.approx(1 / 3)
