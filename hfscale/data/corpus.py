"""Text for pretraining: documents of any source, one per row of a memory-mapped table, never all in memory."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hfscale import console
from hfscale.data.cache import cached_table
from hfscale.data.docstrings import read_docstrings
from hfscale.data.examples import COLUMNS_FROM, refuse_missing_columns, text_of, without_bad_rows
from hfscale.data.readers import Row, file_kind, naming_read_errors, read_file, text_lines
from hfscale.data.sources import Source, find_source
from hfscale.data.splits import refuse_idle
from hfscale.errors import DataError, SettingsError
from hfscale.schemas import CorpusSettings

if TYPE_CHECKING:
    from datasets import Dataset

_LONGEST = 64 * 2**20  # characters of one document: it is held in memory while it is read and tokenized
_FRACTION, _ENOUGH = 0.1, 1000  # held out by default: a tenth, but not many more documents than this
_READING = ("text", "columns", "delimiter", "quoting", "encoding", "documents", "max_documents")
_FORMAT = 1  # raise it when what is read changes: it is part of the cache's key


class Corpus(NamedTuple):
    """Tables with the columns `text` and `where`."""

    train: Dataset
    validation: Dataset | None
    validation_bytes: int
    """UTF-8 bytes of the validation text; 0 without one."""


def load_corpus(settings: CorpusSettings) -> Corpus:
    """The documents that the settings name, and those held out: equal texts stand on one side.

    A corpus of a single document is cut near its end instead.

    Raises:
        DataError: for data that can't be read, no text at all, a document of more than 64 M characters.
        SettingsError: for a setting that no source heeds.
    """
    sources = [find_source(name, corpus=True) for name in (settings.train, settings.validation) if name]
    _refuse_idle(settings, sources)
    table = _documents(sources[0], settings)
    if settings.validation:
        train, validation = table, _documents(sources[1], settings)
    elif len(table) == 1:
        train, validation = _cut_one(table, settings)
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
    if settings.text != "text" and kinds and kinds <= {".txt", ".py"}:
        raise SettingsError(f"--data.text has no effect on {settings.train}: plain text has no columns; leave it out")


def _documents(source: Source, settings: CorpusSettings) -> Dataset:
    from datasets import Features, Value

    if source.hub_id is not None or any(file_kind(path) not in (".txt", ".py") for path in source.files):
        rows = itertools.islice(_rows(source, settings), COLUMNS_FROM)
        refuse_missing_columns(list(rows), [("--data.text", settings.text)])
    key = f"corpus {_FORMAT}\0{source.fingerprint(settings, settings.max_documents)}\0"
    key += repr([getattr(settings, name) for name in _READING])
    features = Features({name: Value("string") for name in ("text", "where", "problem")})
    table = cached_table(_examples, features, {"source": source, "settings": settings}, key)
    if not len(table):
        raise DataError(f"{source.name} holds no text")
    return without_bad_rows(table, source, settings)


def _examples(source: Source, settings: CorpusSettings) -> Iterator[dict[str, Any]]:
    for row in itertools.islice(_rows(source, settings), settings.max_documents):
        text, problem = text_of(row, settings.text)
        yield {"text": text, "where": row.where, "problem": problem}


def _rows(source: Source, settings: CorpusSettings) -> Iterator[Row]:
    """One row per document."""
    if source.hub_id is not None:
        yield from source.rows(settings, settings.max_documents)
    for path in source.files:
        kind = file_kind(path)
        if kind == ".txt":
            with naming_read_errors(path):
                yield from _text_documents(path, settings)
        elif kind == ".py":
            for line, text in read_docstrings(path):
                yield Row(f"{path} line {line}", {settings.text: text})
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
            raise DataError(
                f"{path} line {start}: a document of more than {_LONGEST / 2**20:.0f} M characters; if the file holds "
                "many documents, pass --data.documents line or blank_line, else cut it into several files"
            )


def _hold_out(table: Dataset, settings: CorpusSettings) -> tuple[Dataset, Dataset | None]:
    """Split by a hash of the text, so that copies of a document fall on the same side."""
    given = settings.validation_fraction
    fraction = min(_FRACTION, _ENOUGH / len(table)) if given is None else given
    if not fraction:
        return table, None
    held: list[int] = []
    kept: list[int] = []
    for row, text in enumerate(table["text"]):
        digest = hashlib.blake2b(f"{settings.split_seed}\0{text}".encode(), digest_size=8).digest()
        (held if int.from_bytes(digest) < fraction * 2**64 else kept).append(row)
    if not held or not kept:
        raise DataError(
            f"{settings.train}: holding out {fraction:.2g} of {len(table):,} documents leaves an empty part; give "
            "--data.validation or another --data.validation_fraction"
        )
    return table.select(kept), table.select(held)


def _cut_one(table: Dataset, settings: CorpusSettings) -> tuple[Dataset, Dataset | None]:
    """The first part of a single document to train on, the last to hold out, cut at a line's end if there is one."""
    given = settings.validation_fraction
    fraction = _FRACTION if given is None else given
    if not fraction:
        return table, None
    text, where = table[0]["text"], table[0]["where"]
    at = int(len(text) * (1 - fraction))
    at = text.rfind("\n", at // 2, at) + 1 or at
    if not text[:at].strip() or not text[at:].strip():
        raise DataError(f"{where}: a single document too short to hold out a part of; give --data.validation")
    key = f"{table._fingerprint} {at}"
    return _single(text[:at], where, f"{key} first"), _single(text[at:], where, f"{key} last")


def _single(text: str, where: str, key: str) -> Dataset:
    from datasets import Features, Value

    features = Features({"text": Value("string"), "where": Value("string")})
    return cached_table(_one_row, features, {"text": text, "where": where}, key)


def _one_row(text: str, where: str) -> Iterator[dict[str, str]]:
    yield {"text": text, "where": where}
