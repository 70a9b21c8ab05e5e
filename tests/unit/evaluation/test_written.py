"""Metrics of written texts on some of the pairs: those of all of them are the task's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hfscale.evaluation import resampled, standard_error
from hfscale.evaluation.seq2seq import score_texts
from hfscale.evaluation.written import Written
from tests.support.pairs import pairs

pytest.importorskip("sacrebleu", reason="needs the extra `seq2seq`")
pytest.importorskip("rouge_score", reason="needs the extra `seq2seq`")
REFERENCES = [row["target"] for row in pairs(40, longest=8)]
TEXTS = [" ".join(text.split()[: 1 + row % 7]) for row, text in enumerate(REFERENCES)]


@pytest.mark.parametrize("task", ["translation", "summarization"])
def test_of_chosen_pairs_they_are_those_of_the_texts_alone(task: Any) -> None:
    losses = np.arange(80, dtype=float).reshape(40, 2) + 1
    written = Written(task, TEXTS, REFERENCES, losses)
    some = np.array([3, 1, 1, 30, 7])
    expected = score_texts(task, [TEXTS[row] for row in some], [REFERENCES[row] for row in some])
    assert {name: written.metric_of(name, some) for name in expected} == pytest.approx(expected)
    assert written.metric_of("loss", some) == losses[some, 0].sum() / losses[some, 1].sum()
    assert list(written.metrics()) == [*expected, "loss", "perplexity"]
    error = standard_error(resampled(written, next(iter(expected))))
    assert error is not None and error > 0


def test_bleu_without_a_common_4_gram_is_that_of_the_task() -> None:
    references = ["a man rides a red bike", "two dogs run on the beach"]
    texts = ["a man rides a blue car", "two cats run on a hill"]
    written = Written("translation", texts, references, np.ones((2, 2)))
    assert written.metric_of("bleu", np.arange(2)) == pytest.approx(
        score_texts("translation", texts, references)["bleu"]
    )
    assert written.metric_of("bleu", np.arange(2)) > 0
