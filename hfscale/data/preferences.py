"""Pairs of answers to one prompt, the chosen one and the rejected one, as rows of messages.

Columns: `text` (the chosen conversation, as JSON), `rejected` (the other one), `prompt` (what both answer) and `where`
(file and line).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from hfscale.data.chat_template import ChatFormat, hide, say_left_out
from hfscale.data.conversations import Conversations, Read, RowKind, as_text, pair, split_rows, wrong_with
from hfscale.data.examples import text_of
from hfscale.data.packing import PackedSequences
from hfscale.data.readers import Row
from hfscale.data.sources import Source
from hfscale.errors import ModelError
from hfscale.schemas import ConversationSettings

if TYPE_CHECKING:
    from datasets import Dataset

_LAYOUTS = (("prompt", "chosen", "rejected"), ("chosen", "rejected"))


def load_preferences(settings: ConversationSettings) -> Conversations:
    """The pairs that the settings name, and those held out: all of a prompt stand on one side.

    Answers are texts or messages; where they are whole conversations, these differ in the last message alone.

    Raises:
        DataError: as `load_conversations`, and for two answers that are equal.
    """
    return split_rows(settings, _KIND)


def _pairs(source: Source, settings: ConversationSettings, layout: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for row in source.rows(settings):
        (chosen, problem), (rejected, other) = (_conversation(row, name, layout) for name in ("chosen", "rejected"))
        problem = problem or other or _wrong(chosen, rejected)
        texts = [as_text([] if problem else messages) for messages in (chosen, rejected, chosen[:-1])]
        yield {**dict(zip(_COLUMNS, texts, strict=True)), "where": row.where, "problem": problem}


_COLUMNS = ("text", "rejected", "prompt")
_KIND = RowKind("preferences", _LAYOUTS, _COLUMNS, _pairs, apart="prompt", version=2)


def _conversation(row: Row, name: str, layout: tuple[str, ...]) -> Read:
    answer, prompt = row.values.get(name), row.values.get("prompt") if "prompt" in layout else None
    if not isinstance(answer, list):
        if isinstance(prompt, list):
            text, problem = text_of(row, name)
            return [*prompt, {"role": "assistant", "content": text}], problem
        if "prompt" not in layout:
            return [], f"column {name} holds no list of messages, and there is no column prompt"
        return pair(text_of(row, "prompt"), text_of(row, name))
    # Many data sets write the prompt again into both answers.
    if isinstance(prompt, list):
        return (answer if answer[: len(prompt)] == prompt else [*prompt, *answer]), None
    whole = len(answer) > 1 or prompt is None
    return (answer if whole else [{"role": "user", "content": prompt}, *answer]), None


def _wrong(chosen: list[Any], rejected: list[Any]) -> str | None:
    for name, messages in (("chosen", chosen), ("rejected", rejected)):
        problem = wrong_with(messages)
        if problem:
            return f"{name}: {problem}"
    if chosen[:-1] != rejected[:-1]:
        return "chosen and rejected don't answer the same messages"
    return "chosen and rejected are equal" if chosen[-1]["content"] == rejected[-1]["content"] else None


def pair_preferences(
    preferences: Conversations, chat: ChatFormat, settings: ConversationSettings
) -> tuple[PackedSequences, PackedSequences | None]:
    """Training and validation pairs as sequences of two pieces, the chosen conversation and the rejected one.

    Raises:
        DataError, ModelError: as `tokenize_preferences`.
    """
    paired = {}
    for name, table in (("training", preferences.train), ("validation", preferences.validation)):
        if table is not None:
            pieces = tokenize_preferences(table, chat, settings.max_length)
            paired[name] = PackedSequences(pieces, 2 * settings.max_length, "decoder", each=2)
            paired[name].say(name)
    return paired["training"], paired.get("validation")


def tokenize_preferences(table: Dataset, chat: ChatFormat, max_length: int) -> Dataset:
    """Two rows for each pair whose conversations both have at most `max_length` tokens: `input_ids` (see
    `hfscale.data.chat_template.hide`; of each conversation the last answer alone is compared) and `where`. Pairs that
    are longer, or that the template writes alike, are left out and counted aloud.

    Raises:
        DataError: where all are longer.
        ModelError: as `ChatFormat.encode`.
    """
    from datasets import Features, List, Value

    def encode(batch: dict[str, list[str]]) -> dict[str, list[Any]]:
        rows: dict[str, list[Any]] = {"input_ids": [], "where": []}
        for chosen, rejected, where in zip(batch["text"], batch["rejected"], batch["where"], strict=True):
            try:
                both = [chat.encode_last(json.loads(text)) for text in (chosen, rejected)]
            except ModelError as error:
                raise ModelError(f"{where}: {error}") from None
            alike = np.array_equal(both[0][0], both[1][0])
            if not alike and all(len(ids) <= max_length for ids, _ in both):
                rows["input_ids"] += [hide(ids, ~learned) for ids, learned in both]
                rows["where"] += [where, where]
        return rows

    key = f"{chat.fingerprint} {table._fingerprint} {max_length} pairs 2"
    encoded = table.map(
        encode,
        batched=True,
        remove_columns=table.column_names,
        features=Features({"input_ids": List(Value("int32")), "where": Value("string")}),
        new_fingerprint=hashlib.sha256(key.encode()).hexdigest()[:32],
        desc="tokenizing",
    )
    say_left_out(table, encoded, f"pairs are longer than --data.max_length {max_length}, or written alike")
    return encoded
