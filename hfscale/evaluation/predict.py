"""Labels for new texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


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
