"""Text -> token ids, once, cached."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from hfscale import console
from hfscale.data.spans import tokenize_questions
from hfscale.data.subwords import tokenize_words

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from hfscale.data.labels import Labels

_FORMAT = 2  # raise it when the tokenized columns change: it is part of the cache's key


def tokenize(
    table: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    labels: Labels,
    stride: int | None = None,
) -> Dataset:
    """Add the columns `input_ids` (and `token_type_ids` where the model has them), `length` in tokens, and targets:
    `labels`, for words `token_labels`, one per token.

    Texts over `max_length` tokens, special ones counted, are cut at the end (of the longer text of a pair) and counted
    aloud. Sentences of tagged words are split, and contexts read in windows that share `stride` tokens: one row each,
    `example` being the row of `table` it stems from. A fast tokenizer uses all cores by itself; a slow one, which can
    only read texts, gets a process per core.

    Raises:
        DataError: for a label that no training example has, and a question that leaves no room for its context.
        ModelError: for words or spans and a tokenizer that can't say where its tokens stand.
    """
    key = _fingerprint(table, tokenizer, max_length, labels, stride)
    if labels.task == "token_classification":
        return tokenize_words(table, tokenizer, max_length, labels, key)
    if labels.task == "question_answering":
        return tokenize_questions(table, tokenizer, max_length, stride, labels, key)
    return _tokenize_texts(table, tokenizer, max_length, labels, key)


def _tokenize_texts(
    table: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, labels: Labels, key: str
) -> Dataset:
    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        encoded = tokenizer(
            batch["text"],
            batch.get("text_pair"),
            truncation=True,
            max_length=max_length,
            return_attention_mask=False,
            return_overflowing_tokens=False,
        )
        lengths = [len(ids) for ids in encoded["input_ids"]]
        if tokenizer.is_fast:
            cut = [bool(encoding.overflowing) for encoding in encoded.encodings or []]
        else:
            whole = tokenizer(batch["text"], batch.get("text_pair"), verbose=False)["input_ids"]
            cut = [len(ids) > length for ids, length in zip(whole, lengths, strict=True)]
        return {**encoded, "length": lengths, "cut": cut}

    targets = labels.encode(table)
    slow_processes = None if tokenizer.is_fast or len(table) < 10_000 else os.cpu_count()
    encoded = table.map(
        encode,
        batched=True,
        num_proc=slow_processes,
        new_fingerprint=key,
        desc="tokenizing",
    )
    num_cut = sum(encoded["cut"])
    if num_cut:
        console.say(f"data       {num_cut:,} of {len(table):,} examples were cut at {max_length} tokens")
    return encoded.remove_columns("cut").add_column("labels", targets)  # type: ignore[call-arg]


def _fingerprint(
    table: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, labels: Labels, stride: int | None
) -> str:
    """Key of the rows that `table.map` makes, of all that they hold: the tags' numbers, too, and windows that overlap.

    The targets of whole texts are added after the map, so that other labels find the same token ids.
    """
    key = f"{_FORMAT}\0{table._fingerprint}\0{tokenizer_fingerprint(tokenizer)}\0{max_length}"
    if labels.task == "token_classification":
        key += f"\0{labels.names!r}"
    if labels.task == "question_answering":
        key += f"\0{stride}"
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the token ids depend on. `datasets` would pickle the tokenizer, whose state changes with every call."""
    backend = json.dumps(tokenizer.get_vocab())
    if tokenizer.is_fast:
        fast: Any = tokenizer
        parts = json.loads(fast.backend_tokenizer.to_str())
        backend = json.dumps({name: part for name, part in parts.items() if name not in ("truncation", "padding")})
    kind = (type(tokenizer).__name__, tokenizer.model_input_names, tokenizer.truncation_side)
    return hashlib.sha256(f"{kind}\0{backend}".encode()).hexdigest()
