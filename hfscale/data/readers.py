"""Rows of local files, each with the place it came from, so that a complaint can name the file and the line.

`csv` and `json` of the standard library are used instead of pandas, which turns the texts "NA", "null" and "nan"
into missing values, guesses column types, and can't say on which line a row stood.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import json
import sys
import zlib
from collections.abc import Callable, Generator, Iterator
from io import BufferedIOBase, TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple

from hfscale.errors import DataError
from hfscale.schemas import SourceSettings

HALF_CHARACTER = "half of a character (a lone surrogate)"


class Row(NamedTuple):
    """One raw row and where it stands (`train.csv line 17`)."""

    where: str
    values: dict[str, Any]


def read_file(path: Path, settings: SourceSettings) -> Iterator[Row]:
    """Rows of one csv, tsv, txt, json, jsonl (each also .gz) or parquet file, in order, not held in memory.

    Raises:
        DataError: for an unknown kind of file, an empty, corrupt or unreadable one, bytes that are not in
            `settings.encoding`, or a row that can't be parsed; names file and line.
    """
    reader = _READERS.get(file_kind(path))
    if reader is None:
        raise DataError(f"{path}: unknown kind of file; known are {', '.join(sorted(_READERS))}, plain or .gz")
    empty = True
    with naming_read_errors(path):
        for row in reader(path, settings):
            empty = False
            yield row
    if empty:
        raise DataError(f"{path}: the file is empty, or has a header and no rows")


@contextlib.contextmanager
def naming_read_errors(path: Path) -> Generator[None]:
    """Turn what goes wrong with a file's bytes into one line."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: corrupt gzip file ({error})") from None
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror or error}") from None


def has_half_characters(text: str) -> bool:
    """True for text with lone surrogates, which JSON can write and no encoding can hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def file_kind(path: Path) -> str:
    """The lower-case ending that tells how to read a file, `.gz` left out."""
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()


def _open(path: Path) -> BufferedIOBase:
    return gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")


def _looks_binary(path: Path) -> bool:
    with _open(path) as file:
        return b"\0" in file.read(2**16)


def text_lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """(line number from 1, text with its line end), decoded strictly; a byte order mark is dropped."""
    try:
        codec = codecs.getincrementaldecoder(encoding)
    except LookupError:
        raise DataError(f"--data.encoding {encoding} is not an encoding that Python knows") from None
    with _open(path) as raw:
        # The byte 0x0A ends a line, except in UTF-16 and UTF-32, where it can be half of another character.
        wide = codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))
        lines = _wide_lines(raw, encoding) if wide else _byte_lines(raw, codec())
        number = 0
        try:
            for number, text in enumerate(lines, start=1):
                yield number, text.removeprefix("\ufeff") if number == 1 else text
        except UnicodeDecodeError as error:
            if not wide and _looks_binary(path):
                raise DataError(f"{path}: not a text file, it holds NUL bytes; remove it, or name others") from None
            raise DataError(
                f"{path} line {number + 1}: byte {error.start + 1} is not {encoding}; "
                "name the right one with --data.encoding (latin-1, cp1252, ...)"
            ) from None


def _byte_lines(raw: BufferedIOBase, decoder: codecs.IncrementalDecoder) -> Iterator[str]:
    for line in raw:
        yield decoder.decode(line, final=True)


def _wide_lines(raw: BufferedIOBase, encoding: str) -> Iterator[str]:
    with TextIOWrapper(raw, encoding=encoding, newline="\n") as text:  # type: ignore[arg-type]
        yield from text


def _read_delimited(path: Path, settings: SourceSettings) -> Iterator[Row]:
    delimiter = settings.delimiter or ("\t" if file_kind(path) == ".tsv" else ",")
    csv.field_size_limit(sys.maxsize)
    numbers: list[int] = [0]

    def feed() -> Iterator[str]:
        for number, text in text_lines(path, settings.encoding):
            numbers[0] = number
            yield text

    quoting = csv.QUOTE_MINIMAL if settings.quoting else csv.QUOTE_NONE
    rows = csv.reader(feed(), delimiter=delimiter, quoting=quoting, strict=True)
    names = settings.columns
    start = 1
    while True:
        try:
            fields = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            hint = "; if its quotes are plain characters, pass --data.quoting false" if settings.quoting else ""
            raise DataError(f"{path} line {start}: {error}{hint}") from None
        where, start = f"{path} line {start}", numbers[0] + 1
        if not fields:  # a blank line
            continue
        if names is None:
            names = _header(fields, where)
            continue
        if len(fields) != len(names):
            raise DataError(
                f"{where}: {len(fields)} fields, but the columns are {', '.join(names)}; check "
                "--data.delimiter, --data.quoting and, for a file without a header line, --data.columns"
            )
        yield Row(where, dict(zip(names, fields, strict=True)))


def _header(names: list[str], where: str) -> list[str]:
    other = next((character for character in ";\t|," if len(names) == 1 and character in names[0]), None)
    if other is not None:
        raise DataError(f"{where}: the header is a single column, {names[0]!r}; is it --data.delimiter {other!r}?")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{where}: column {twice!r} stands twice in the header; is there one? See --data.columns")
    return names


def _read_json_lines(path: Path, settings: SourceSettings) -> Iterator[Row]:
    for number, line in text_lines(path, settings.encoding):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path} line {number}: not valid JSON ({error.msg})") from None
        if not isinstance(value, dict):
            raise DataError(f'{path} line {number}: must be an object like {{"text": ...}}, not {line.strip()[:40]}')
        yield Row(f"{path} line {number}", value)


def _read_json(path: Path, settings: SourceSettings) -> Iterator[Row]:
    """A list of objects, or an object that holds exactly one list (`{"data": [...]}`)."""
    text = "".join(line for _, line in text_lines(path, settings.encoding))
    if not text.strip():
        return
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path} line {error.lineno}: not valid JSON ({error.msg}); is it .jsonl?") from None
    if isinstance(value, dict):
        lists = [item for item in value.values() if isinstance(item, list)]
        value = lists[0] if len(lists) == 1 else None
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise DataError(f'{path}: must be a list of objects like [{{"text": ...}}]')
    for number, item in enumerate(value, start=1):
        yield Row(f"{path} item {number}", item)


def _read_text(path: Path, settings: SourceSettings) -> Iterator[Row]:
    for number, line in text_lines(path, settings.encoding):
        yield Row(f"{path} line {number}", {"text": line.rstrip("\r\n")})


def _read_parquet(path: Path, settings: SourceSettings) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        number = 0
        for batch in pq.ParquetFile(path).iter_batches(batch_size=1000):
            for values in batch.to_pylist():
                number += 1
                yield Row(f"{path} row {number}", values)
    except pa.ArrowException as error:
        raise DataError(f"{path}: not a readable parquet file ({error})") from None


_READERS: dict[str, Callable[[Path, SourceSettings], Iterator[Row]]] = {
    ".csv": _read_delimited,
    ".tsv": _read_delimited,
    ".txt": _read_text,
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".parquet": _read_parquet,
}
KINDS = tuple(sorted(_READERS))
