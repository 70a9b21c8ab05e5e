"""Telling whether training examples are those of an earlier run, without reading all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hfscale.batch import Batch

_SAMPLE = 64


def fingerprint(lengths: np.ndarray, batch: Callable[[np.ndarray], Batch]) -> str:
    """Of the number of examples, the length (or class) of each, and the content of 64 that lie evenly apart.

    Args:
        lengths: (examples,) integers.
        batch: gives the examples of the given numbers as model inputs.
    """
    rows = np.unique(np.linspace(0, len(lengths) - 1, min(_SAMPLE, len(lengths))).astype(np.int64))
    found = hashlib.sha256(np.ascontiguousarray(lengths, dtype=np.int64).tobytes())
    for name, tensor in sorted(batch(rows).inputs.items()):
        found.update(f"{name} {tuple(tensor.shape)}".encode())
        found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()
