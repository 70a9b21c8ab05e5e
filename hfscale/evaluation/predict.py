"""Labels for new texts, tags for their words, answers to questions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hfscale.data.labels import SPAN_OR_NONE
from hfscale.data.spans import span_windows
from hfscale.data.subwords import word_windows
from hfscale.data.tags import entities, is_plain
from hfscale.evaluation.answers import Window, best_answer
from hfscale.training.losses import logits_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from hfscale.schemas import Task

_WORD = re.compile(r"\w+(?:[-.'\u2019]\w+)*|[^\w\s]")
"""Words of plain text: letters and digits with hyphens, points and apostrophes between them; other marks alone."""


def predict_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[tuple[str, ...]],
    max_length: int,
    batch_size: int,
) -> list[dict[str, Any]]:
    """One object per text, in order: `text` (and `text_pair`), `label` and `score`; `labels` and `scores` where
    several can hold at once; `value` for a regression. Texts of similar length run together.
    """
    order = sorted(range(len(texts)), key=lambda i: -sum(map(len, texts[i])))
    predictions: list[dict[str, Any]] = [{}] * len(texts)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        columns = [[texts[row][part] for row in rows] for part in range(len(texts[0]))]
        first, second = columns[0], columns[1] if len(columns) > 1 else None
        inputs = tokenizer(first, second, truncation=True, max_length=max_length, padding=True, return_tensors="pt")
        with torch.inference_mode():
            logits = model(**inputs.to(model.device)).logits.float().cpu()
        for row, output in zip(rows, logits, strict=True):
            given = dict(zip(("text", "text_pair"), texts[row], strict=False))
            predictions[row] = given | _decode(model.config, output)
    return predictions


def predict_tags(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[str | list[str]],
    max_length: int,
    batch_size: int,
) -> list[dict[str, Any]]:
    """One object per sentence, a text or a list of words, in order: `words`, their `tags` and, unless tags are plain,
    the `entities` that they mark: `label`, `text`, and the first word and the word after the last as `words`.

    A text is split into words and punctuation marks first. Every word gets a tag, however long the sentence is.
    """
    words = [_WORD.findall(sentence) if isinstance(sentence, str) else sentence for sentence in sentences]
    windows = list(word_windows(tokenizer, words, max_length))
    config: Any = model.config
    names = [config.id2label[number] for number in range(config.num_labels)]
    tags: list[list[str]] = [[] for _ in words]
    inputs = [window.inputs for window in windows]
    best = _outputs(model, tokenizer, "token_classification", inputs, batch_size, lambda logits: logits.argmax(-1))
    for window, numbers in zip(windows, best, strict=True):
        tags[window.sentence].extend(names[number] for number in numbers[window.first_tokens])
    predictions = [{"words": given, "tags": found} for given, found in zip(words, tags, strict=True)]
    if not is_plain(names):
        for prediction in predictions:
            prediction["entities"] = [
                {"label": kind, "text": " ".join(prediction["words"][first:last]), "words": [first, last]}
                for kind, first, last in entities(prediction["tags"])
            ]
    return predictions


def predict_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[tuple[str, str]],
    max_length: int,
    batch_size: int,
    stride: int | None = None,
) -> list[dict[str, Any]]:
    """One object per question with its context, in order: `question`, `answer`, its characters of the context from
    `start` to before `end`, and `score`, the probability among all spans. A model that has learned from questions
    without an answer may give an empty one.
    """
    asked, contexts = [question for question, _ in questions], [context for _, context in questions]
    where = [f"question {number}" for number in range(1, len(questions) + 1)]
    windows = list(span_windows(tokenizer, asked, contexts, max_length, stride, where)) if questions else []
    outputs = _outputs(model, tokenizer, "question_answering", [window.inputs for window in windows], batch_size)
    found: list[list[Window]] = [[] for _ in questions]
    for window, output in zip(windows, outputs, strict=True):
        found[window.question].append(Window(output, window.starts, window.ends, window.none))
    config: Any = model.config
    may_be_none = config.id2label[0] == SPAN_OR_NONE[0]
    answers = [best_answer(part, context, may_be_none) for part, context in zip(found, contexts, strict=True)]
    return [
        {"question": question, "answer": text, "start": start, "end": end, "score": score}
        for question, (text, start, end, score) in zip(asked, answers, strict=True)
    ]


def _outputs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    windows: Sequence[dict[str, list[int]]],
    batch_size: int,
    keep: Callable[[torch.Tensor], torch.Tensor] = lambda logits: logits,
) -> list[np.ndarray]:
    """What `keep` makes of the (windows, tokens, outputs) logits of a batch: for each window (tokens, ...), without
    padding, for all of them are held in memory. Windows of similar length run together."""
    order = sorted(range(len(windows)), key=lambda row: -len(windows[row]["input_ids"]))
    outputs: dict[int, np.ndarray] = {}
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        columns = {name: [windows[row][name] for row in rows] for name in windows[rows[0]]}
        inputs = tokenizer.pad(columns, padding_side="right", return_tensors="pt").to(model.device)
        with torch.inference_mode():
            kept = keep(logits_of(task, model, dict(inputs)).float()).cpu().numpy()
        for row, output in zip(rows, kept, strict=True):
            outputs[row] = output[: len(windows[row]["input_ids"])].copy()
    return [outputs[row] for row in range(len(windows))]


def _decode(config: Any, logits: torch.Tensor) -> dict[str, Any]:
    """What one row of (outputs,) logits says."""
    names = [config.id2label[i] for i in range(len(logits))]
    if config.problem_type == "regression":
        return {"value": float(logits[0])}
    if config.problem_type == "multi_label_classification":
        scores = dict(zip(names, logits.sigmoid().tolist(), strict=True))
        return {"labels": [name for name, score in scores.items() if score > 0.5], "scores": scores}
    scores = dict(zip(names, logits.softmax(-1).tolist(), strict=True))
    best = max(scores, key=lambda name: scores[name])
    return {"label": best, "score": scores[best], "scores": scores}
