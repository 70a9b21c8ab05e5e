"""Text files of which the same lines belong together, as translations come: one file per language."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from hfscale.data.readers import Row, naming_read_errors, text_lines
from hfscale.errors import DataError
from hfscale.schemas import SourceSettings

IN_BRACES = re.compile(r"\{([^{},/]+,[^{}/]*[^{},/])\}")
"""The languages of `train.{en,de}.gz`."""


def parallel_rows(paths: tuple[Path, ...], columns: tuple[str, ...], settings: SourceSettings) -> Iterator[Row]:
    """A row for each line, with a column for each file, plain or .gz; blank lines count.

    Raises:
        DataError: where one file ends before the others, or can't be read.
    """
    files = [_lines(path, settings.encoding) for path in paths]
    for number, texts in enumerate(itertools.zip_longest(*files), start=1):
        ended = [path for path, text in zip(paths, texts, strict=True) if text is None]
        if ended:
            others = ", ".join(str(path) for path in paths if path not in ended)
            raise DataError(
                f"{ended[0]} ends before line {number}, which {others} has: their lines don't belong together"
            )
        yield Row(f"{paths[0]} line {number}", dict(zip(columns, texts, strict=True)))


def _lines(path: Path, encoding: str) -> Iterator[str]:
    with naming_read_errors(path):
        for _, line in text_lines(path, encoding):
            yield line.rstrip("\r\n")
