"""How sure a metric is, and the difference of two on the same rows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hfscale.evaluation import resampled, standard_error
from hfscale.evaluation.outcomes import Answers, Losses


def answers(right: np.ndarray, given: np.ndarray) -> Answers:
    return Answers("single_label_classification", given, right, 2, 0.5, np.linspace(0, 1, len(right)))


def test_the_standard_error_of_an_accuracy_is_the_binomial_one() -> None:
    draw = np.random.default_rng(1)
    right = draw.integers(2, size=400)
    given = np.where(draw.random(400) < 0.8, right, 1 - right)
    found = answers(right, given)
    share = found.metrics()["accuracy"]
    error = standard_error(resampled(found, "accuracy"))
    assert error == pytest.approx(math.sqrt(share * (1 - share) / 400), rel=0.25)
    assert found.metric_of("f1", np.arange(400)) == found.metrics()["f1"]
    assert standard_error(resampled(found, "loss")) == pytest.approx(0.29 / 20, rel=0.25)


def test_the_change_of_one_answer_in_a_hundred_is_surer_than_either_accuracy() -> None:
    right = np.arange(100) % 2
    before = np.where(np.arange(100) < 80, right, 1 - right)
    after = before.copy()
    after[0] = 1 - after[0]
    one, other = (resampled(answers(right, given), "accuracy") for given in (before, after))
    assert standard_error(one - one) == 0
    assert standard_error(other - one) == pytest.approx(0.01, rel=0.3)
    assert (standard_error(one) or 0) > 0.03


def test_sentences_answers_and_losses_are_resampled_whole() -> None:
    tags = [["B-A", "O"], ["O", "B-A"]] * 8
    words = Answers("token_classification", tags, [["B-A", "O"]] * 16, 2, 0.1)
    assert 0.1 < (standard_error(resampled(words, "f1")) or 0) < 0.3
    assert standard_error(resampled(words, "loss")) is None  # windows of a sentence are not its rows
    spans = Answers("question_answering", ["a house", "no"] * 8, [["house"]] * 16, 2, 0.1)
    assert 0.05 < (standard_error(resampled(spans, "f1")) or 0) < 0.2
    losses = Losses(np.array([[2.0, 1.0], [4.0, 1.0]] * 32), 1.0)
    assert losses.metrics()["loss"] == 3
    assert standard_error(resampled(losses, "loss")) == pytest.approx(1 / 8, rel=0.3)


def test_of_few_rows_nothing_is_claimed() -> None:
    assert standard_error(resampled(answers(np.zeros(7, int), np.zeros(7, int)), "accuracy")) is None
