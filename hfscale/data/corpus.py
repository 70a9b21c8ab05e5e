"""Text for pretraining: documents of any source, one per row of a memory-mapped table, never all in memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hfscale import console
from hfscale.data.cache import cached_table
from hfscale.data.docstrings import read_docstrings
from hfscale.data.examples import COLUMNS_FROM, refuse_missing_columns, text_of, without_bad_rows
from hfscale.data.hold_out import hold_out_some, warn_of_shared
from hfscale.data.readers import KINDS, Row, file_kind, naming_read_errors, read_file, text_lines
from hfscale.data.sources import Source, find_source
from hfscale.data.splits import refuse_idle
from hfscale.errors import DataError, SettingsError
from hfscale.schemas import CorpusSettings

if TYPE_CHECKING:
    from datasets import Dataset

_LONGEST = 64 * 2**20  # characters of one document: it is held in memory while it is read and tokenized
_FRACTION, _ENOUGH = 0.1, 2**20  # held out by default: a tenth, but not many more characters than this
_FEW = 20  # documents: of fewer it would be chance how much text is held out whole
_READING = ("text", "columns", "delimiter", "quoting", "encoding", "documents", "max_documents")
_TABLES = {kind for kind in KINDS if kind != ".txt"}  # files with columns
_DOCSTRINGS = "builtin:docstrings"
_FORMAT = 2  # raise it when what is read changes: it is part of the cache's key


class Corpus(NamedTuple):
    """Tables with the columns `text` and `where`."""

    train: Dataset
    validation: Dataset | None
    validation_bytes: int
    """UTF-8 bytes of the validation text; 0 without one."""


def load_corpus(settings: CorpusSettings) -> Corpus:
    """The documents that the settings name, and those held out: equal texts stand on one side.

    Of fewer than 20 documents the end of each is held out instead. Training documents that also stand in a validation
    source of its own are counted aloud.

    Raises:
        DataError: for data that can't be read, no text at all, a document of more than 64 M characters.
        SettingsError: for a setting that no source heeds.
    """
    sources = [find_source(name, corpus=True) for name in (settings.train, settings.validation) if name]
    _refuse_idle(settings, sources)
    table = _documents(sources[0], settings)
    if settings.validation:
        train, validation = table, _documents(sources[1], settings)
        warn_of_shared(train, validation, "documents")
    else:
        train, validation = _hold_out(table, settings)
    num_bytes = sum(len(text.encode()) for text in validation["text"]) if validation else 0
    held_out = f", {len(validation):,} validation documents ({num_bytes / 1e6:.1f} MB)" if validation else " documents"
    console.say(f"data       {settings.train}: {len(train):,} training{held_out}")
    return Corpus(train, validation, num_bytes)


def _refuse_idle(settings: CorpusSettings, sources: list[Source]) -> None:
    refuse_idle(settings, sources)
    kinds = {file_kind(path) for source in sources for path in source.files}
    if settings.documents and ".txt" not in kinds:
        raise SettingsError(f"--data.documents has no effect on {settings.train}, which holds no plain text file")
    if settings.text != "text" and kinds and not kinds & _TABLES:
        raise SettingsError(f"--data.text has no effect on {settings.train}: plain text has no columns; leave it out")
    if settings.encoding != "utf-8" and all(source.name.startswith(_DOCSTRINGS) for source in sources):
        raise SettingsError(f"--data.encoding has no effect on {settings.train}, which says its own; leave it out")


def _documents(source: Source, settings: CorpusSettings) -> Dataset:
    from datasets import Features, Value

    if source.hub_id is not None or any(file_kind(path) in _TABLES for path in source.files):
        rows = itertools.islice(_rows(source, settings), COLUMNS_FROM)
        refuse_missing_columns(list(rows), [("--data.text", settings.text)])
    key = f"corpus {_FORMAT}\0{source.fingerprint(settings, settings.max_documents)}\0"
    key += repr([getattr(settings, name) for name in _READING])
    features = Features({name: Value("string") for name in ("text", "where", "problem")})
    table = cached_table(_examples, features, {"source": source, "settings": settings}, key, rows_at_once=100)
    if not len(table):
        raise DataError(f"{source.name} holds no text; give files with some")
    _say_empty(source, len(table), settings)
    return without_bad_rows(table, source, settings)


def _say_empty(source: Source, num_documents: int, settings: CorpusSettings) -> None:
    """Where each file is a document, count those without text."""
    each = settings.documents in (None, "file") and settings.max_documents is None
    empty = len(source.files) - num_documents
    if each and empty > 0 and all(file_kind(path) == ".txt" for path in source.files):
        console.warn(f"left out {empty:,} of the {len(source.files):,} files of {source.name}: they hold no text")


def _examples(source: Source, settings: CorpusSettings) -> Iterator[dict[str, Any]]:
    for row in itertools.islice(_rows(source, settings), settings.max_documents):
        text, problem = text_of(row, settings.text)
        if len(text) > _LONGEST:
            raise _too_long(row.where)
        yield {"text": text, "where": row.where, "problem": problem}


def _rows(source: Source, settings: CorpusSettings) -> Iterator[Row]:
    """One row per document."""
    if source.hub_id is not None:
        yield from source.rows(settings, settings.max_documents)
    for path in source.files:
        if source.name.startswith(_DOCSTRINGS):
            for line, text in read_docstrings(path):
                yield Row(f"{path} line {line}", {settings.text: text})
        elif file_kind(path) == ".txt":
            with naming_read_errors(path):
                yield from _text_documents(path, settings)
        else:
            yield from read_file(path, settings)


def _text_documents(path: Path, settings: CorpusSettings) -> Iterator[Row]:
    """A plain text file as one document, or one per line, or per block between blank lines. No blank ones."""
    until = settings.documents or "file"
    start, parts, size = 1, list[str](), 0
    for number, line in itertools.chain(text_lines(path, settings.encoding), [(0, "")]):
        blank, at_end = not line.strip(), number == 0
        if "\0" in line:
            raise DataError(f"{path} line {number}: a NUL character; the file is not plain text")
        if parts and (at_end or until == "line" or (until == "blank_line" and blank)):
            yield Row(f"{path} line {start}", {settings.text: "".join(parts).strip("\r\n")})
            parts, size = [], 0
        if blank and not parts:
            continue
        start = start if parts else number
        parts.append(line)
        size += len(line)
        if size > _LONGEST:
            raise _too_long(f"{path} line {start}")


def _too_long(where: str) -> DataError:
    return DataError(
        f"{where}: a document of more than {_LONGEST / 2**20:.0f} M characters; if it is a text file with many "
        "documents, pass --data.documents line or blank_line, else cut it into several"
    )


def _hold_out(table: Dataset, settings: CorpusSettings) -> tuple[Dataset, Dataset | None]:
    num_characters = sum(map(len, table["text"]))
    given = settings.validation_fraction
    fraction = min(_FRACTION, _ENOUGH / num_characters) if given is None else given
    if not fraction:
        return table, None
    if len(table) < _FEW:
        if settings.split_seed:
            raise SettingsError(
                f"--data.split_seed has no effect on {len(table)} documents, whose ends are held out; leave it out"
            )
        return _hold_out_ends(table, fraction)
    return hold_out_some(table, fraction, settings)


def _hold_out_ends(table: Dataset, fraction: float) -> tuple[Dataset, Dataset]:
    """Each document without its end, and the ends; cut at a line's end if there is one."""
    from datasets import Features, Value

    features = Features({"text": Value("string"), "where": Value("string")})
    parts = [
        cached_table(_parts, features, {"table": table, "fraction": fraction, "part": part}, key)
        for part in (0, 1)
        for key in [f"ends {table._fingerprint} {fraction} {part}"]
    ]
    if not len(parts[1]):
        raise DataError(
            f"{table[0]['where']}: documents too short to hold out a part of; give --data.validation, or "
            "--data.validation_fraction 0"
        )
    return parts[0], parts[1]


def _parts(table: Dataset, fraction: float, part: int) -> Iterator[dict[str, str]]:
    for text, where in zip(table["text"], table["where"], strict=True):
        at = int(len(text) * (1 - fraction))
        at = text.rfind("\n", at // 2, at) + 1 or at
        both = text[:at].strip() and text[at:].strip()
        if both or not part:
            yield {"text": (text[:at], text[at:])[part] if both else text, "where": where}
