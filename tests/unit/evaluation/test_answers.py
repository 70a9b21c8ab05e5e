"""The best span against a search through all of them, and SQuAD's metrics against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hfscale.evaluation import compute_metrics
from hfscale.evaluation.answers import Window, best_answer

CONTEXT = "ab cd ef gh ij kl mn op qr st uv wx yz"


def windows(seed: int) -> list[Window]:
    """Two windows over the context's 13 words, the first tokens of each being the question's."""
    draw = np.random.default_rng(seed)
    made = []
    for words in (range(8), range(5, 13)):
        starts = [-1, -1, -1, *(3 * word for word in words), -1]
        ends = [-1, -1, -1, *(3 * word + 2 for word in words), -1]
        logits = draw.normal(size=(len(starts) + 2, 2)).astype(np.float32)
        logits[len(starts) :] = -np.inf  # padding
        made.append(Window(logits, starts, ends, none=0))
    return made


@pytest.mark.parametrize("seed", range(8))
def test_the_best_span_of_all(seed: int) -> None:
    both = windows(seed)
    spans = [
        (float(window.logits[i, 0]) + float(window.logits[j, 1]), window.starts[i], window.ends[j])
        for window in both
        for i in range(len(window.starts))
        for j in range(i, len(window.starts))
        if window.starts[i] >= 0 and window.starts[j] >= 0
    ]
    score, start, end = max(spans)
    found = best_answer(both, CONTEXT, may_be_none=False)
    assert (found.start, found.end, found.text) == (start, end, CONTEXT[start:end])
    assert found.score == pytest.approx(np.exp(score) / sum(np.exp(score) for score, _, _ in spans))
    none = [float(window.logits[0].sum()) for window in both]
    found = best_answer(both, CONTEXT, may_be_none=True)
    assert (found.text == "") == (min(none) > score)
    for window in both:
        window.logits[0] = 9.0
    assert best_answer(both, CONTEXT, may_be_none=True)[:3] == ("", -1, -1)


def test_an_answer_has_at_most_thirty_tokens() -> None:
    logits = np.zeros((40, 2), dtype=np.float32)
    logits[0, 0] = logits[39, 1] = 5.0
    window = Window(logits, list(range(40)), list(range(1, 41)), none=0)
    found = best_answer([window], "x" * 40, may_be_none=False)
    assert found.end - found.start <= 30


@pytest.mark.parametrize(
    "given, right, f1, exact",
    [
        ("The Denver Broncos!", ["denver  broncos"], 1.0, 1.0),
        ("Denver", ["the Denver Broncos"], 2 / 3, 0.0),
        ("in Denver Denver", ["Denver", "Paris"], 0.5, 0.0),
        ("Paris", ["Denver"], 0.0, 0.0),
        ("the", ["a"], 1.0, 1.0),
        ("", [], 1.0, 1.0),
        ("Denver", [], 0.0, 0.0),
        ("", ["Denver"], 0.0, 0.0),
    ],
)
def test_answer_metrics(given: str, right: list[str], f1: float, exact: float) -> None:
    values = compute_metrics("question_answering", [given], [right], 2)
    assert values == {"f1": pytest.approx(f1), "exact_match": exact}


def test_entity_metrics() -> None:
    right = [["B-A", "I-A", "O", "B-B"], ["S-A", "O"]]
    given = [["B-A", "I-A", "O", "B-A"], ["O", "O"]]  # 1 of 2 predicted and of 3 true entities; 4 of 6 words
    values = compute_metrics("token_classification", given, right, 3)
    assert values == {
        "f1": pytest.approx(0.4),
        "precision": pytest.approx(1 / 2),
        "recall": pytest.approx(1 / 3),
        "accuracy": pytest.approx(4 / 6),
    }
    nothing = compute_metrics("token_classification", [["O"]], [["O"]], 3)
    assert nothing == {"f1": 0.0, "precision": 0.0, "recall": 0.0, "accuracy": 1.0}


@pytest.mark.parametrize("may_be_none", [False, True])
def test_a_context_without_tokens_has_no_answer(may_be_none: bool) -> None:
    window = Window(np.zeros((4, 2), np.float32), [-1] * 4, [-1] * 4, none=0)
    assert best_answer([window, window], "\u200b", may_be_none) == ("", -1, -1, 0.0)
