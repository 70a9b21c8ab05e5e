"""One training example in words, as the model gets it."""

from __future__ import annotations

import itertools
from typing import Any

from hfscale.batch import FIRST_SOFT_TOKEN, NO_LABEL, Batch

_SHOWN = 32  # tokens
_WRITTEN = 600  # characters of a conversation


def describe_example(batch: Batch, tokenizer: Any, label_names: dict[int, str]) -> str:
    """An example of a batch, the one with the most padding: its tokens, and what is to be learned from it.

    Args:
        tokenizer: None for images.
        label_names: names of a classifier's outputs, by number.
    """
    seen = batch.inputs.get("attention_mask", batch.inputs.get("piece_ids"))
    row = 0 if seen is None else int((seen > 0).sum(1).argmin())
    inputs = {name: tensor[row] for name, tensor in batch.inputs.items()}
    labels = inputs["labels"]
    if seen is None:
        image = next(tensor for name, tensor in inputs.items() if name != "labels")
        size = " x ".join(map(str, image.shape))
        return f"{size} image, values {image.min():.2f} to {image.max():.2f} -> {_target(labels, label_names)}"
    seen = seen[row]
    real = (seen > 0).nonzero().flatten().tolist()
    ids = inputs["input_ids"].tolist()
    if "piece_ids" in inputs and _is_partly_learned(ids, labels.tolist(), seen.tolist()):
        first = [at for at in real if seen[at] == 1]
        is_learned = [False, *(label != NO_LABEL for label in labels.tolist())]
        text = _written([ids[at] for at in first], [is_learned[at] for at in first], tokenizer)
        return f"{text}; {len(first)} tokens, {sum(is_learned[at] for at in first)} of them learned"
    texts = tokenizer.convert_ids_to_tokens(ids)
    learned = labels.shape == inputs["input_ids"].shape and not labels.is_floating_point()
    if learned:
        texts = _with_targets(texts, ids, labels.tolist(), tokenizer, label_names, "piece_ids" in inputs)
    words = [texts[at] for at in real]
    if "piece_ids" in inputs:
        words = _with_borders(words, [int(seen[at]) for at in real])
    shown = " ".join(words[:_SHOWN]) + (f" ... ({len(words) - _SHOWN} more)" if len(words) > _SHOWN else "")
    masked = f", {len(ids) - len(real)} of padding masked out" if len(real) < len(ids) else ""
    if learned:
        number = int((labels != NO_LABEL).sum())
        return f"{shown}; {len(real)} tokens{masked}, {number} of them with a target"
    return f"{shown} -> {_target(labels, label_names, ids, tokenizer)}; {len(real)} tokens{masked}"


def describe_pair(batch: Batch, tokenizer: Any) -> str:
    """The pair of a batch with the most padding: what an encoder-decoder reads, and what it is to write."""
    row = int(batch.inputs["attention_mask"].sum(1).argmin())
    read = batch.inputs["input_ids"][row][batch.inputs["attention_mask"][row] > 0]
    labels = batch.inputs["labels"][row]
    written = labels[labels != NO_LABEL]
    texts = [tokenizer.decode(ids) for ids in (read, written)]
    shown = " -> ".join(repr(text if len(text) <= _WRITTEN else f"{text[:_WRITTEN]}...") for text in texts)
    return f"{shown}; {len(read)} tokens read, {len(written)} written"


def _is_partly_learned(ids: list[int], labels: list[int], pieces: list[int]) -> bool:
    """Whether there are next tokens of the same text that are read only, beside others that are learned."""
    inside = [at for at in range(len(ids) - 1) if pieces[at] == pieces[at + 1] > 0]
    return (
        0
        < sum(labels[at] == ids[at + 1] for at in inside)
        < len(inside)
        == sum(labels[at] in (NO_LABEL, ids[at + 1]) for at in inside)
    )


def _with_targets(
    texts: list[str], ids: list[int], labels: list[int], tokenizer: Any, names: dict[int, str], predicts: bool
) -> list[str]:
    """Tokens with a target as `token=target`; next tokens, which stand there anyway, are left out."""
    if predicts and all(label in (NO_LABEL, after) for label, after in zip(labels, ids[1:], strict=False)):
        return texts
    targets = tokenizer.convert_ids_to_tokens([max(label, 0) for label in labels]) if predicts else None
    return [
        text if label == NO_LABEL else f"{text}={targets[at] if targets else names.get(label, label)}"
        for at, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]


def _written(ids: list[int], learned: list[bool], tokenizer: Any) -> str:
    """Text of a conversation as the model reads it; what it learns stands between `<<` and `>>`. The tokens of a
    trained prompt, which are no text, are counted."""
    at = sum(token >= FIRST_SOFT_TOKEN for token in ids)  # they come first
    parts, learned = [f"<{at} prompt tokens>"] if at else [], learned[at:]
    for is_learned, run in itertools.groupby(learned):
        end = at + len(list(run))
        text = tokenizer.decode(ids[at:end])
        parts.append(f"<<{text}>>" if is_learned else text)
        at = end
    text = "".join(parts)
    return repr(text if len(text) <= _WRITTEN else f"{text[:_WRITTEN]}...")


def _with_borders(words: list[str], pieces: list[int]) -> list[str]:
    """A bar where another document begins."""
    return [f"| {word}" if at and pieces[at] != pieces[at - 1] else word for at, word in enumerate(words)]


def _target(labels: Any, names: dict[int, str], ids: list[int] | None = None, tokenizer: Any = None) -> str:
    if labels.ndim == 0:
        value = labels.item()
        return names.get(value, str(value)) if isinstance(value, int) else f"{value:g}"
    if labels.is_floating_point():  # several labels at once
        return ", ".join(names.get(at, str(at)) for at in labels.nonzero().flatten().tolist()) or "no label"
    assert ids is not None
    start, end = labels.tolist()
    return repr(tokenizer.decode(ids[start : end + 1]))


def describe_special_tokens(tokenizer: Any) -> str:
    """`role token id` of each."""
    found = []
    for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"):
        token = getattr(tokenizer, f"{role}_token", None)
        if token is not None:
            found.append(f"{role} {token} {getattr(tokenizer, f'{role}_token_id')}")
    return ", ".join(found)
