"""Baselines on rows whose best constant and best words are known."""

from __future__ import annotations

from typing import Any

import pytest

from hfscale.evaluation import text_baselines
from hfscale.schemas import METRICS
from tests.support.rows import table_of


def table(texts: list[str], labels: list[Any]) -> Any:
    return table_of(texts, ["x"] * len(texts)).add_column("labels", labels)


def test_words_tell_the_classes_apart() -> None:
    train = table(["good film", "good plot", "fine good cast", "bad film", "bad plot"], [0, 0, 0, 1, 1])
    held_out = table(["good scene", "bad scene", "bad cast", "bad end"], [0, 1, 1, 1])
    scores = text_baselines("single_label_classification", train, held_out)
    assert list(scores) == ["majority", "tfidf"]
    assert scores["majority"]["accuracy"] == 0.25
    assert scores["tfidf"]["accuracy"] == 1.0


def test_one_letter_words_count() -> None:
    train = table(["plan a", "plan b"] * 3, [0, 1] * 3)
    scores = text_baselines("single_label_classification", train, table(["the a", "the b"], [0, 1]))
    assert scores["tfidf"]["accuracy"] == 1.0


def test_both_texts_of_a_pair_count() -> None:
    pairs = table(["same", "same", "same", "same"], [0, 1, 0, 1]).add_column("text_pair", ["yes", "no", "yes", "no"])
    assert text_baselines("single_label_classification", pairs, pairs)["tfidf"]["accuracy"] == 1.0


def test_several_labels() -> None:
    train = table(["red", "blue", "red blue", "none"] * 5, [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]] * 5)
    scores = text_baselines("multi_label_classification", train, train)
    assert scores["tfidf"]["subset_accuracy"] == 1.0
    assert scores["majority"]["f1_micro"] < 1.0


@pytest.mark.filterwarnings("ignore:Label 0 is present in all training examples:UserWarning")
def test_a_label_that_every_row_has_is_no_error() -> None:
    train = table(["red", "blue", "green"], [[1.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    assert text_baselines("multi_label_classification", train, train)["tfidf"]["f1_micro"] > 0.5


def test_numbers() -> None:
    train = table(["good good", "good", "bad", "bad bad"] * 5, [4.0, 3.0, 1.0, 0.0] * 5)
    scores = text_baselines("regression", train, table(["good", "bad"], [3.0, 1.0]))
    assert scores["majority"]["mse"] == pytest.approx(1.0)
    assert scores["tfidf"]["mse"] < 0.5 and scores["tfidf"]["pearson"] > 0.9


@pytest.mark.parametrize("task, labels", [("single_label_classification", [0, 1]), ("regression", [0.0, 1.0])])
def test_the_same_metrics_are_measured_as_for_the_model(task: Any, labels: list[Any]) -> None:
    rows = table(["one", "two"], labels)
    for values in text_baselines(task, rows, rows).values():
        assert (*values, "loss") == METRICS[task]
