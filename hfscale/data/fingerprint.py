"""Telling whether training examples are those of an earlier run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from datasets import Dataset

_MOST_BYTES = 2**28  # of content: a quarter of a second; of a larger corpus what comes first, and the size of all
_ROWS_AT_ONCE = 10_000


def fingerprint(sizes: np.ndarray, content: Iterable[Any]) -> str:
    """Of one integer for each example (its length, its class), all of them, and of the content, up to 256 MiB.

    Args:
        content: pieces that have a buffer: bytes, contiguous arrays.
    """
    found = hashlib.sha256(np.ascontiguousarray(sizes, dtype=np.int64).tobytes())
    left = _MOST_BYTES
    for piece in content:
        part = memoryview(piece).cast("B")[:left]
        found.update(part)
        left -= len(part)
        if not left:
            break
    return found.hexdigest()


def content_of(table: Dataset) -> Iterable[Any]:
    """The rows of a table as bytes, the same wherever they lie in memory or on disk."""
    import pyarrow as pa

    for start in range(0, len(table), _ROWS_AT_ONCE):
        rows: Any = table.with_format("arrow")[start : start + _ROWS_AT_ONCE]
        rows = rows.replace_schema_metadata(None).combine_chunks()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as stream:
            stream.write_table(rows)
        yield sink.getvalue()
