"""Conversations of any source, as rows of messages: chats, prompts with completions, instructions with outputs.

Columns: `text` (the messages, as JSON) and `where` (file and line).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hfscale import console
from hfscale.data.cache import cached_table
from hfscale.data.examples import COLUMNS_FROM, text_of, without_bad_rows
from hfscale.data.hold_out import hold_out_some, warn_of_shared
from hfscale.data.readers import HALF_CHARACTER, Row, has_half_characters
from hfscale.data.sources import Source, find_source
from hfscale.data.splits import refuse_idle
from hfscale.errors import DataError
from hfscale.schemas import ConversationSettings, SourceSettings

if TYPE_CHECKING:
    from datasets import Dataset

Message = dict[str, str]
"""`role` and `content`."""

_LAYOUTS = (("messages",), ("prompt", "completion"), ("instruction", "output"))
_ROLES = ("system", "user", "assistant")
_FRACTION = 0.1


class Conversations(NamedTuple):
    """Tables with the columns `text` and `where`."""

    train: Dataset
    validation: Dataset | None


def load_conversations(settings: ConversationSettings) -> Conversations:
    """The conversations that the settings name, and those held out: equal ones stand on one side.

    Raises:
        DataError: for data that can't be read, columns of no known layout, and, unless `bad_rows` is `skip`, messages
            that don't alternate between user and assistant or lack the answer.
    """
    return split_rows(settings, RowKind("conversations", _LAYOUTS, ("text",), _conversations, apart="text", version=2))


class RowKind(NamedTuple):
    """What the rows of a source are made into."""

    name: str
    """In the plural."""
    layouts: Sequence[tuple[str, ...]]
    """Columns that a source may have; the first that fits counts."""
    columns: Sequence[str]
    """Texts that are made, beside `where` and `problem`."""
    make: Callable[..., Iterator[dict[str, Any]]]
    """Of (source, settings, layout)."""
    apart: str
    """The text by which rows are held out: of two with the same one, both are or neither."""
    version: int | str
    """Another one when what is made changes: it is part of the cache's key."""


def split_rows(settings: SourceSettings, kind: RowKind) -> Conversations:
    """Training and validation rows of the sources that the settings name.

    Raises:
        DataError: as `load_conversations`.
    """
    sources = [find_source(name) for name in (settings.train, settings.validation) if name]
    tested = getattr(settings, "test", None)
    refuse_idle(settings, [*sources, *([find_source(tested)] if tested else [])])
    table, *others = (table_of(each, settings, kind) for each in sources)
    if others:
        train, validation = table, others[0]
        warn_of_shared(train, validation, kind.name, kind.apart)
    else:
        fraction = _FRACTION if settings.validation_fraction is None else settings.validation_fraction
        train, validation = hold_out_some(table, fraction, settings, kind.apart) if fraction else (table, None)
    held_out = f", {len(validation):,} validation" if validation is not None else ""
    console.say(f"data       {settings.train}: {len(train):,} training{held_out} {kind.name}")
    return Conversations(train, validation)


def table_of(source: Source, settings: SourceSettings, kind: RowKind) -> Dataset:
    """The good rows of a source.

    Raises:
        DataError: as `load_conversations`.
    """
    from datasets import Features, Value

    layout = _layout_of(source, settings, kind)
    key = f"{kind.name} {kind.version}\0{source.fingerprint(settings)}\0{layout}\0"
    key += repr([getattr(settings, name) for name in ("columns", "delimiter", "quoting", "encoding")])
    features = Features({name: Value("string") for name in (*kind.columns, "where", "problem")})
    arguments = {"source": source, "settings": settings, "layout": layout}
    return without_bad_rows(cached_table(kind.make, features, arguments, key), source, settings)


def _layout_of(source: Source, settings: SourceSettings, kind: RowKind) -> tuple[str, ...]:
    rows = list(itertools.islice(source.rows(settings), COLUMNS_FROM))
    if not rows:
        raise DataError(f"{source.name} holds no {kind.name}")
    found = list(dict.fromkeys(str(name) for row in rows for name in row.values))
    for layout in kind.layouts:
        if set(layout) <= set(found):
            return layout
    known = ", or ".join(" and ".join(layout) for layout in kind.layouts)
    raise DataError(f"{source.name} has the columns {', '.join(found)}; {kind.name} need {known}")


def _conversations(
    source: Source, settings: ConversationSettings, layout: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    for row in source.rows(settings):
        messages, problem = _READERS[layout](row)
        problem = problem or wrong_with(messages)
        yield {"text": as_text([] if problem else messages), "where": row.where, "problem": problem}


def as_text(messages: list[Any]) -> str:
    """Messages as JSON, with nothing but role and content."""
    told = [{name: message[name] for name in ("role", "content")} for message in messages]
    return json.dumps(told, ensure_ascii=False)


Read = tuple[list[Any], str | None]
"""Messages, and what is wrong with them."""


def _from_messages(row: Row) -> Read:
    value = row.values.get("messages")
    return (value, None) if isinstance(value, list) else ([], "column messages holds no list of messages")


def _from_completion(row: Row) -> Read:
    prompt, completion = row.values.get("prompt"), row.values.get("completion")
    if isinstance(prompt, list) and isinstance(completion, list):
        return [*prompt, *completion], None
    return pair(text_of(row, "prompt"), text_of(row, "completion"))


def _from_instruction(row: Row) -> Read:
    instruction, problem = text_of(row, "instruction")
    given = text_of(row, "input")[0]
    asked = f"{instruction}\n\n{given}" if given.strip() else instruction
    return pair((asked, problem), text_of(row, "output"))


def pair(asked: tuple[str, str | None], answered: tuple[str, str | None]) -> Read:
    """A question and its answer, each a text and what is wrong with it, as messages."""
    messages = [{"role": "user", "content": asked[0]}, {"role": "assistant", "content": answered[0]}]
    return messages, asked[1] or answered[1]


_READERS = {_LAYOUTS[0]: _from_messages, _LAYOUTS[1]: _from_completion, _LAYOUTS[2]: _from_instruction}


def wrong_with(messages: list[Any]) -> str | None:
    """What keeps messages from being a conversation that ends with an answer."""
    for number, message in enumerate(messages, start=1):
        if not (isinstance(message, dict) and isinstance(message.get("content"), str)):
            return f"message {number} has no text as its content"
        role = message.get("role")
        if role not in _ROLES:
            return f"message {number} is of role {role!r}, not {', '.join(_ROLES)}"
        if not message["content"].strip() or has_half_characters(message["content"]):
            return f"message {number} {f'holds {HALF_CHARACTER}' if message['content'].strip() else 'is empty'}"
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if turns and turns == ["user", "assistant"] * (len(turns) // 2):
        return None
    return f"its roles are {', '.join(roles) or 'none'}; user and assistant must take turns, and the last one answer"
