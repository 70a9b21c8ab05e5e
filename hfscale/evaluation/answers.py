"""From the scores of starts and ends to one answer per question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_LONGEST = 30  # tokens of an answer, as in BERT's own evaluation


class Answer(NamedTuple):
    """The best answer to a question."""

    text: str
    """Empty for "the context holds no answer"."""
    start: int
    """Character of the context; -1 without an answer."""
    end: int
    """The character after the last; -1 without an answer."""
    score: float
    """Probability among all spans of all windows, in [0, 1]."""


class Window(NamedTuple):
    """What the model says about one window, and where its tokens stand in the context."""

    logits: np.ndarray
    """(tokens, 2) scores of starts and ends."""
    starts: Sequence[int]
    """Character at which each token starts; -1 for a token that is not the context's."""
    ends: Sequence[int]
    """Character after the last of each token."""
    none: int
    """The token whose choice means that the answer isn't here."""


def best_answer(windows: Sequence[Window], context: str, may_be_none: bool) -> Answer:
    """The span of at most 30 tokens with the highest sum of start and end score, over all windows of one question.

    The search is exact, not over n best starts and ends. With `may_be_none` there is no answer where each window
    scores "not here" above every span (SQuAD 2.0, with a threshold of 0; Devlin et al. 2018, section 4.3). A context
    that has no token at all has no answer either, and its score is 0.
    """
    best, where = -np.inf, (0, 0)
    total = -np.inf  # log of the sum over all spans
    for window in windows:
        width = len(window.starts)
        inside = np.asarray(window.starts) >= 0
        first = np.where(inside, window.logits[:width, 0].astype(np.float64), -np.inf)
        last = np.where(inside, window.logits[:width, 1].astype(np.float64), -np.inf)
        for more in range(min(_LONGEST, width)):
            scores = first[: width - more] + last[more:]
            at = int(scores.argmax())
            if scores[at] > best:
                best, where = float(scores[at]), (window.starts[at], window.ends[at + more])
            total = np.logaddexp(total, np.logaddexp.reduce(scores))
    if best == -np.inf:
        return Answer("", -1, -1, 0.0)
    if may_be_none:
        none = min(float(window.logits[window.none].sum()) for window in windows)
        total = np.logaddexp(total, none)
        if none > best:
            return Answer("", -1, -1, float(np.exp(none - total)))
    start, end = where
    text = context[start:end]
    start, end = start + len(text) - len(text.lstrip()), end - (len(text) - len(text.rstrip()))
    return Answer(context[start:end], start, end, float(np.exp(best - total)))
