"""Questions and contexts -> windows of tokens, each knowing which characters of the context its tokens cover."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hfscale import console
from hfscale.data.labels import SPAN, Labels
from hfscale.errors import DataError, ModelError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

_DEFAULT_STRIDE = 128
OUTSIDE = -1  # the character offset of tokens that are not the context's


class SpanWindow(NamedTuple):
    """A question with a part of its context as token ids."""

    question: int
    """Number of the question."""
    inputs: dict[str, list[int]]
    """`input_ids`, and `token_type_ids` where the model has them."""
    starts: list[int]
    """For each token the character of the context at which it starts; -1 for those of the question."""
    ends: list[int]
    """For each token the character after its last; -1 for those of the question."""
    none: int
    """The token whose choice means that the answer isn't here: `[CLS]`, else the first one."""

    def tokens_of(self, start: int, end: int) -> tuple[int, int] | None:
        """(first, last) token of the context's characters from `start` to before `end`; None unless all are here."""
        inside = [n for n, at in enumerate(self.starts) if at != OUTSIDE and self.ends[n] > start and at < end]
        if not inside or self.starts[inside[0]] > start or self.ends[inside[-1]] < end:
            return None
        return inside[0], inside[-1]


def tokenize_questions(
    table: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    stride: int | None,
    labels: Labels,
    key: str,
) -> Dataset:
    """One row per window, with `example`, its row in `table`, the table's own columns, the windows' `starts` and
    `ends` and `none`, and `labels`: the first and last token of the (first) answer, or `none` twice. `answerable` says
    whether the question has an answer, `answered` whether this window holds it. `key` is the result's fingerprint.
    """

    def encode(batch: dict[str, list[Any]], rows: list[int]) -> dict[str, list[Any]]:
        names = ("example", "length", "starts", "ends", "none", "labels", "answerable", "answered")
        columns: dict[str, list[Any]] = {name: [] for name in names}
        for window in span_windows(tokenizer, batch["text"], batch["text_pair"], max_length, stride, batch["where"]):
            columns["example"].append(rows[window.question])
            columns["length"].append(len(window.starts))
            columns["starts"].append(window.starts)
            columns["ends"].append(window.ends)
            columns["none"].append(window.none)
            answers = batch["label"][window.question]
            target = _target(window, answers)
            columns["labels"].append(target)
            columns["answerable"].append(bool(answers["text"]))
            columns["answered"].append(window.starts[target[0]] != OUTSIDE)
            for name, values in window.inputs.items():
                columns.setdefault(name, []).append(values)
            for name, values in batch.items():
                columns.setdefault(name, []).append(values[window.question])
        return columns

    given = {"remove_columns": table.column_names, "new_fingerprint": key}
    encoded = table.map(encode, batched=True, with_indices=True, desc="tokenizing", **given)
    if len(encoded) > len(table):
        sizes = f"{len(table):,} questions were read in {len(encoded):,} windows"
        console.say(f"data       {sizes} of {max_length} tokens")
    _warn_of_questions(encoded, table, labels)
    return encoded


def _warn_of_questions(windows: Dataset, table: Dataset, labels: Labels) -> None:
    """Count the questions whose answer no window holds whole, and those without one that the model must get wrong."""
    example = np.asarray(windows["example"][:])
    answerable, answered = (np.asarray(windows[name][:], dtype=bool) for name in ("answerable", "answered"))
    lost = np.setdiff1d(example[answerable], example[answered])
    if len(lost):
        console.warn(
            f"{len(lost):,} of {len(table):,} answers are not whole in any window; --data.stride may be too small"
        )
    without = np.unique(example[~answerable])
    if len(without) and labels.names == SPAN:
        console.warn(
            f"{len(without):,} of {len(table):,} questions have no answer (the first: "
            f"{table[int(without[0])]['where']}), but all training questions have one: the model always answers, and "
            "these count as wrong"
        )


def span_windows(
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    contexts: Sequence[str],
    max_length: int,
    stride: int | None,
    where: Sequence[str],
) -> Iterator[SpanWindow]:
    """All windows of all questions in order: the whole question and as much of the context as fits, the next window
    starting `stride` tokens before the end of the last.

    Raises:
        DataError: for a question so long that windows could not advance; names it by `where`.
        ModelError: for a tokenizer that can't say which characters a token covers.
    """
    if not tokenizer.is_fast:
        raise ModelError(f"{tokenizer.name_or_path}: question answering needs a fast tokenizer (tokenizer.json)")
    shared = min(_DEFAULT_STRIDE, max_length // 3) if stride is None else stride
    room = max_length - tokenizer.num_special_tokens_to_add(pair=True)
    alone = tokenizer(list(questions), add_special_tokens=False, verbose=False)["input_ids"]
    for place, question in zip(where, alone, strict=True):
        if room - len(question) <= shared:
            raise DataError(
                f"{place}: the question has {len(question):,} tokens, which leaves no room for its context with "
                f"--data.max_length {max_length} and --data.stride {shared}; change these, or shorten it"
            )
    encoded = tokenizer(
        list(questions),
        list(contexts),
        truncation="only_second",
        max_length=max_length,
        stride=shared,
        return_overflowing_tokens=True,
        verbose=False,
    )
    for question, encoding in zip(encoded["overflow_to_sample_mapping"], encoded.encodings or [], strict=True):
        inputs = {"input_ids": encoding.ids}
        if "token_type_ids" in tokenizer.model_input_names:
            inputs["token_type_ids"] = encoding.type_ids
        of_context = [sequence == 1 for sequence in encoding.sequence_ids]
        starts, ends = (
            [at[side] if inside else OUTSIDE for at, inside in zip(encoding.offsets, of_context, strict=True)]
            for side in (0, 1)
        )
        cls = tokenizer.cls_token_id
        yield SpanWindow(question, inputs, starts, ends, encoding.ids.index(cls) if cls in encoding.ids else 0)


def _target(window: SpanWindow, answers: dict[str, list[Any]]) -> list[int]:
    if not answers["text"]:
        return [window.none, window.none]
    text, start = answers["text"][0], answers["answer_start"][0]
    start += len(text) - len(text.lstrip())
    return list(window.tokens_of(start, start + len(text.strip())) or (window.none, window.none))
