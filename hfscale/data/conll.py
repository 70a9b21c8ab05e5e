"""Column files of tagged sentences, as the CoNLL shared tasks write them: a word per line, a blank line in between.

They come with any ending, and nothing in them says what they are: whoever asks for words with tags and names a file
that is no csv, json, jsonl or parquet means one (`is_conll`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from hfscale.data.readers import KINDS, Row, file_kind, naming_read_errors, text_lines
from hfscale.errors import DataError
from hfscale.schemas import SourceSettings

_BLANKS = " \t\r\n"


def is_conll(path: Path) -> bool:
    """True for what the task of tagging words reads as a column file: .txt, .tsv, .conll, .iob, ..., plain or .gz."""
    return file_kind(path) not in set(KINDS) - {".txt", ".tsv"}


def read_conll(path: Path, settings: SourceSettings) -> Iterator[Row]:
    """One row per sentence, with a list per column; lines of `-DOCSTART-` end a sentence and are left out, and so are
    comments before one, as CoNLL-U has them (`# sent_id = 1`).

    Fields are separated by `settings.delimiter`, else by tabs where the line has any, else by blanks. The columns are
    `settings.columns`, else the first is `tokens`, the last `tags`.

    Raises:
        DataError: for a line with another number of fields; also what `read_file` refuses.
    """
    sentence: list[list[str]] = []
    first, empty = 1, True
    with naming_read_errors(path):
        first_line = _first_line(path, settings)
        names = settings.columns or _names(len(_fields(first_line, settings.delimiter)))
        by_tabs = "\t" in first_line and not settings.delimiter
        for number, line in text_lines(path, settings.encoding):
            fields = _fields(line, settings.delimiter)
            if not fields or fields[0] == "-DOCSTART-":
                if sentence:
                    yield _row(path, first, names, sentence)
                sentence = []
                continue
            other = len(fields) != len(names) or (by_tabs and "\t" not in line)
            if other and not sentence and line.startswith("#"):
                continue
            if len(fields) != len(names):
                raise DataError(
                    f"{path} line {number}: {len(fields)} columns, not the {len(names)} of {', '.join(names)}; for "
                    "this task a text file has a word and its tags per line. See --data.columns and --data.delimiter"
                )
            first, empty = first if sentence else number, False
            sentence.append(fields)
    if empty:
        raise DataError(f"{path}: the file is empty")
    if sentence:
        yield _row(path, first, names, sentence)


def _first_line(path: Path, settings: SourceSettings) -> str:
    """The first line that surely holds a word: its fields tell the number of columns. One that starts with `#` may be
    a comment, and is taken only where there is no other."""
    comment = ""
    for _, line in text_lines(path, settings.encoding):
        fields = _fields(line, settings.delimiter)
        if line.startswith("#"):
            comment = comment or line
        elif fields and fields[0] != "-DOCSTART-":
            return line
    return comment


def _fields(line: str, delimiter: str | None) -> list[str]:
    text = line.strip(_BLANKS)
    if not text:
        return []
    if delimiter or "\t" in text:
        return [field.strip(_BLANKS) for field in line.rstrip("\r\n").split(delimiter or "\t")]
    return re.split(" +", text)


def _names(number: int) -> list[str]:
    """Names for the columns of a file where `--data.columns` gives none: those that the task takes words and tags from
    stand at the ends. A column that was asked for by another name is then missing, not guessed."""
    return ["tokens", *(f"column {place}" for place in range(2, number)), "tags"][:number]


def _row(path: Path, first: int, names: list[str], sentence: list[list[str]]) -> Row:
    columns = (list(column) for column in zip(*sentence, strict=True))
    return Row(f"{path} line {first}", dict(zip(names, columns, strict=True)))
