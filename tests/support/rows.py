"""Small data files and tables for tests of `hfscale.data`."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

from hfscale.data.readers import read_file
from hfscale.schemas import DataSettings


def write(path: Path, content: str | bytes) -> Path:
    """Write a data file; one whose name ends in .gz is compressed."""
    raw = content.encode("utf-8") if isinstance(content, str) else content
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def settings_for(path: Path | str, **changed: Any) -> DataSettings:
    """Data settings that train on `path`."""
    return DataSettings(train=str(path), **changed)


def read(path: Path, **changed: Any) -> list[tuple[str, dict[str, Any]]]:
    """(where, values) of a file's rows, `where` without its folder."""
    rows = read_file(path, settings_for(path, **changed))
    return [(where.removeprefix(f"{path.parent}/"), values) for where, values in rows]


def table_of(texts: list[str], labels: list[Any]) -> Any:
    """A table as `hfscale.data.load_examples` returns it."""
    import datasets

    where = [f"made.csv line {number}" for number in range(2, len(texts) + 2)]
    return datasets.Dataset.from_dict({"text": texts, "where": where, "label": labels})


def lengths_table(lengths: list[int], labels: list[Any] | None = None) -> Any:
    """A tokenized table whose row `i` has `lengths[i]` tokens, all of them `i + 1`."""
    import datasets

    ids = [[row + 1] * length for row, length in enumerate(lengths)]
    columns: dict[str, Any] = {"input_ids": ids, "length": lengths, "labels": labels or [0] * len(lengths)}
    return datasets.Dataset.from_dict(columns)
