"""Sentences whose words carry tags, and the schemes in which tags mark entities.

IOB2: `B-X` begins every entity of type X, `I-X` goes on, `O` is outside. IOB1: `B-X` only where an entity directly
follows another of its type. BIOES: also `E-X` for the last word and `S-X` for an entity of one word; BILOU writes L
and U for them. Plain tags (parts of speech) stand for their word alone. Models learn IOB2, BIOES or plain tags; the
others are converted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from hfscale.data.readers import HALF_CHARACTER, Row, has_half_characters

_PREFIXED = re.compile(r"[BIESLU](-.+)?", re.DOTALL)
_BIOES = {"L": "E", "U": "S"}


def is_plain(names: Iterable[str]) -> bool:
    """True for tags that mark no beginnings and ends."""
    return not all(name == "O" or _PREFIXED.fullmatch(name) for name in names)


def odd_tag(names: Iterable[str]) -> tuple[str, str] | None:
    """(a tag that fits no scheme, one that marks an entity) where both occur; None for tags of one kind."""
    names = sorted(names)
    marks = [name for name in names if name[1:2] == "-" and _PREFIXED.fullmatch(name)]
    odd = [name for name in names if name != "O" and not _PREFIXED.fullmatch(name)]
    return (odd[0], marks[0]) if odd and marks else None


def closed(names: Iterable[str]) -> set[str]:
    """The tags with all others of their scheme: where `B-LOC` occurs, `I-LOC` is no new label, only a rare one."""
    found = set(names)
    if is_plain(found):
        return found
    found = {_letter(name) for name in found}
    letters = "BIES" if any(name[0] in "ES" for name in found) else "BI"
    return {"O"} | {letter + name[1:] for name in found if name != "O" for letter in letters}


def scheme_of(names: Iterable[str]) -> str:
    """What the tags of a `closed` set are called."""
    names = set(names)
    return "plain" if is_plain(names) else "BIOES" if any(name[0] in "ES" for name in names) else "IOB2"


def standard_tags(tags: Sequence[str]) -> list[str]:
    """IOB1 as IOB2 and BILOU as BIOES: an `I-X` that begins an entity becomes `B-X`, `L` becomes `E`, `U` becomes `S`.

    IOB2, BIOES and `O` stay as they are; plain tags don't belong here.
    """
    standard: list[str] = []
    before = "O"
    for tag in tags:
        begins = tag[0] == "I" and (before == "O" or before[1:] != tag[1:])
        standard.append("B" + tag[1:] if begins else _letter(tag))
        before = tag
    return standard


def entities(names: Sequence[str]) -> list[tuple[str, int, int]]:
    """(type, first word, word after the last) of the entities that a sentence's tags mark, as conlleval.pl reads them.

    With plain tags every word is an entity by itself, but for those tagged `O`.
    """
    from seqeval.metrics.sequence_labeling import get_entities

    return [(kind, first, last + 1) for kind, first, last in get_entities(list(names))]


def as_entities(sentences: Iterable[Sequence[str]], plain: bool) -> list[list[str]]:
    """Tags as seqeval reads them: a plain tag other than `O` is an entity of one word."""
    return [[f"S-{tag}" if plain and tag != "O" else tag for tag in sentence] for sentence in sentences]


def words_of(row: Row, column: str) -> tuple[list[str], str | None]:
    """(words, what is wrong with them)."""
    value = row.values.get(column)
    if value is None or value == []:
        return [], f"no words in column {column}"
    if not isinstance(value, list):
        return [], f"column {column} holds {_kind(value)}, not a list of words"
    bad = next((number for number, word in enumerate(value, start=1) if not _is_word(word)), None)
    return (value, None) if bad is None else ([], f"word {bad} in column {column} is {value[bad - 1]!r}")


def tags_of(row: Row, column: str, words: Sequence[str]) -> tuple[list[str], str | None]:
    """(one tag per word, what is wrong with them)."""
    value = row.values.get(column)
    if not isinstance(value, list):
        return (
            [],
            f"no tags in column {column}" if value is None else f"column {column} holds {_kind(value)}, not tags",
        )
    if len(value) != len(words):
        return [], f"{len(words)} words, but {len(value)} tags in column {column}"
    tags = ["" if tag is None else str(tag).strip() for tag in value]
    bad = next((n for n, tag in enumerate(tags) if not tag or has_half_characters(tag)), None)
    if bad is None:
        return tags, None
    if not tags[bad]:
        return [], f"word {bad + 1} {words[bad]!r} has no tag"
    return [], f"the tag of word {bad + 1} {words[bad]!r} holds {HALF_CHARACTER}"


def _is_word(value: Any) -> bool:
    """Text that is not blank and has no half characters."""
    return isinstance(value, str) and bool(value.strip()) and not has_half_characters(value)


def _letter(tag: str) -> str:
    return _BIOES.get(tag[0], tag[0]) + tag[1:]


def _kind(value: Any) -> str:
    return "text" if isinstance(value, str) else f"a {type(value).__name__}"
