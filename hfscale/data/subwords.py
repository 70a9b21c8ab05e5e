"""Words -> tokens of their parts, such that every word keeps its tag."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hfscale import console
from hfscale.batch import NO_LABEL
from hfscale.errors import DataError, ModelError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from hfscale.data.labels import Labels


class WordWindow(NamedTuple):
    """A sentence, or a part of one that is too long, as token ids."""

    sentence: int
    """Number of the sentence."""
    first_word: int
    first_tokens: list[int]
    """The position in `inputs` of the first token of each word; it carries the word's tag."""
    inputs: dict[str, list[int]]
    """`input_ids`, and `token_type_ids` where the model has them."""


def tokenize_words(
    table: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, labels: Labels, key: str
) -> Dataset:
    """One row per window of a sentence, with `example`, its row in `table`, its `words`, and `token_labels`: the
    number of each word's tag at its first token, -100 elsewhere. `key` is the fingerprint of the result.

    A sentence over `max_length` tokens is split between two words, so that each word is learned and scored once.
    """
    targets = labels.encode(table)

    def encode(batch: dict[str, list[Any]], rows: list[int]) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {"example": [], "words": [], "token_labels": [], "length": []}
        for window in word_windows(tokenizer, batch["words"], max_length):
            row, first, ids = rows[window.sentence], window.first_word, window.inputs["input_ids"]
            token_labels = [NO_LABEL] * len(ids)
            last = first + len(window.first_tokens)
            for position, target in zip(window.first_tokens, targets[row][first:last], strict=True):
                token_labels[position] = target
            columns["example"].append(row)
            columns["words"].append(batch["words"][window.sentence][first:last])
            columns["token_labels"].append(token_labels)
            columns["length"].append(len(ids))
            for name, values in window.inputs.items():
                columns.setdefault(name, []).append(values)
        return columns

    encoded = table.map(
        encode,
        batched=True,
        with_indices=True,
        remove_columns=table.column_names,
        new_fingerprint=key,
        desc="tokenizing",
    )
    if len(encoded) > len(table):
        num_split = sum(number > 1 for number in Counter(encoded["example"]).values())
        console.say(f"data       {num_split:,} of {len(table):,} sentences were split at {max_length} tokens")
    return encoded


def word_windows(
    tokenizer: PreTrainedTokenizerBase, sentences: Sequence[Sequence[str]], max_length: int
) -> Iterator[WordWindow]:
    """The windows of all sentences in order; every word has a first token in exactly one of them.

    A word of which the tokenizer leaves nothing (a control character) stands as the unknown token; a word with more
    tokens than a window has is cut.

    Raises:
        ModelError: for a tokenizer that can't say which word a token belongs to.
    """
    if not tokenizer.is_fast:
        raise ModelError(f"{tokenizer.name_or_path}: words with tags need a fast tokenizer (tokenizer.json)")
    room = max_length - tokenizer.num_special_tokens_to_add()
    encoded = tokenizer(list(map(list, sentences)), is_split_into_words=True, verbose=False)
    for number, (words, encoding) in enumerate(zip(sentences, encoded.encodings or [], strict=True)):
        sizes = Counter(word for word in encoding.word_ids if word is not None)
        if len(sizes) == len(words) and len(encoding.ids) <= max_length:
            yield _window(tokenizer, number, 0, encoding)
            continue
        known = [word if n in sizes else _unknown(tokenizer, word) for n, word in enumerate(words)]
        for first, last in _cuts([max(1, sizes[n]) for n in range(len(words))], room):
            part = tokenizer(known[first:last], is_split_into_words=True, truncation=True, max_length=max_length)
            yield _window(tokenizer, number, first, (part.encodings or [])[0])


def _window(tokenizer: PreTrainedTokenizerBase, sentence: int, first_word: int, encoding: Any) -> WordWindow:
    first_tokens: dict[int, int] = {}
    for position, word in enumerate(encoding.word_ids):
        if word is not None:
            first_tokens.setdefault(word, position)
    inputs = {"input_ids": encoding.ids}
    if "token_type_ids" in tokenizer.model_input_names:
        inputs["token_type_ids"] = encoding.type_ids
    return WordWindow(sentence, first_word, list(first_tokens.values()), inputs)


def _cuts(sizes: Sequence[int], room: int) -> Iterator[tuple[int, int]]:
    """(first word, word after the last) of parts with at most `room` tokens, or a single word."""
    first = tokens = 0
    for word, size in enumerate(sizes):
        if word > first and tokens + size > room:
            yield first, word
            first, tokens = word, 0
        tokens += size
    yield first, len(sizes)


def _unknown(tokenizer: PreTrainedTokenizerBase, word: str) -> str:
    if tokenizer.unk_token is None:
        raise DataError(f"the tokenizer leaves nothing of the word {word!r}, and has no token for unknown words")
    return str(tokenizer.unk_token)
