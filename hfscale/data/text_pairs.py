"""Pairs of texts, one to read and one to write, and their tokens.

Columns: `text`, `text_pair` (what is to be written) and `where` (file and line).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hfscale import console
from hfscale.data.conversations import RowKind, split_rows, table_of
from hfscale.data.examples import text_of
from hfscale.data.readers import Row
from hfscale.data.sources import Source, find_source
from hfscale.data.splits import Splits
from hfscale.data.tokenization import tokenizer_fingerprint
from hfscale.errors import DataError, ModelError
from hfscale.schemas import TextPairSettings

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

_NESTED = ("translation",)
"""The layout of the Hub's translations: a column that has a text for each language."""
_FORMAT = 1  # raise it when the tokenized columns change: it is part of the cache's key


def load_text_pairs(settings: TextPairSettings) -> Splits:
    """The pairs that the settings name, and those held out, by the text to read.

    Raises:
        DataError: for data that can't be read, columns that aren't there, and, unless `bad_rows` is `skip`, the first
            pair of which a text is missing.
    """
    kind = _row_kind(settings, find_source(settings.train))
    train, validation = split_rows(settings, kind)
    test = table_of(find_source(settings.test), settings, kind) if settings.test else None
    if test is not None:
        console.say(f"data       {settings.test}: {len(test):,} test {kind.name}")
    return Splits(train, validation, test)


def _row_kind(settings: TextPairSettings, source: Source) -> RowKind:
    first, second = source.columns if len(source.columns) == 2 else ("source", "target")
    columns = (settings.source or first, settings.target or second)
    if columns[0] == columns[1]:
        raise DataError(f"the text to read and the text to write are both {columns[0]}; name both columns")
    make = partial(_pairs, columns)
    return RowKind("pairs", (columns, _NESTED), ("text", "text_pair"), make, apart="text", version=f"1 {columns}")


def _pairs(
    columns: tuple[str, str], source: Source, settings: TextPairSettings, layout: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    for row in source.rows(settings):
        texts = [text_of(_flat(row, layout), name) for name in columns]
        problem = next((problem for _, problem in texts if problem), None)
        yield {"text": texts[0][0], "text_pair": texts[1][0], "where": row.where, "problem": problem}


def _flat(row: Row, layout: tuple[str, ...]) -> Row:
    if layout != _NESTED:
        return row
    value = row.values.get(_NESTED[0])
    return Row(row.where, value if isinstance(value, dict) else {})


def tokenize_pairs(
    table: Dataset, tokenizer: PreTrainedTokenizerBase, settings: TextPairSettings, is_training: bool
) -> Dataset:
    """Add the columns `input_ids` and `target_ids`, and their `length` and `target_length` in tokens, special ones
    counted.

    Texts to read that are too long are cut. Pairs whose text to write is too long are left out of training, for it
    would teach to stop early; of held-out ones the loss runs over the beginning.

    Raises:
        DataError: where no pair is left.
        ModelError: for a tokenizer that marks no end, which the model could not learn to write.
    """
    if tokenizer("a")["input_ids"][-1] != tokenizer.eos_token_id:
        raise ModelError(f"{tokenizer.name_or_path}: the tokenizer puts no end token behind a text; choose another")

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        sources = tokenizer([settings.prefix + text for text in batch["text"]], verbose=False)["input_ids"]
        targets = tokenizer(text_target=batch["text_pair"], verbose=False)["input_ids"]
        read = [_cut(ids, settings.max_length) for ids in sources]
        written = [_cut(ids, settings.target_length) for ids in targets]
        return {
            "input_ids": read,
            "target_ids": written,
            "length": list(map(len, read)),
            "target_length": list(map(len, written)),
            "is_cut": [len(ids) > settings.max_length for ids in sources],
            "is_long": [len(ids) > settings.target_length for ids in targets],
        }

    key = (_FORMAT, table._fingerprint, tokenizer_fingerprint(tokenizer), settings.prefix, settings.max_length)
    key = hashlib.sha256(repr((*key, settings.target_length)).encode()).hexdigest()[:32]
    encoded = table.map(encode, batched=True, new_fingerprint=key, desc="tokenizing")
    return _without_long(encoded, settings, is_training)


def _cut(ids: list[int], limit: int) -> list[int]:
    """The end token stays."""
    return ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]


def _without_long(encoded: Dataset, settings: TextPairSettings, is_training: bool) -> Dataset:
    which = "training" if is_training else "held-out"
    num_cut = sum(encoded["is_cut"])
    if num_cut:
        console.say(
            f"data       {num_cut:,} of {len(encoded):,} {which} texts were cut at {settings.max_length} tokens"
        )
    is_long = np.asarray(encoded["is_long"][:])
    if is_training and is_long.any():
        number, all_pairs = int(is_long.sum()), len(encoded)
        if number == all_pairs:
            raise DataError(
                f"{settings.train}: all {all_pairs:,} texts to write are longer than {settings.target_length} tokens; "
                "raise --data.max_target_length"
            )
        console.warn(
            f"left out {number:,} of {all_pairs:,} training pairs, whose text to write is longer than "
            f"{settings.target_length} tokens; the first: {encoded['where'][int(is_long.argmax())]}"
        )
        encoded = encoded.select(np.flatnonzero(~is_long))
    return encoded.remove_columns(["is_cut", "is_long"])
