"""Which documents are held out: by a hash of their text, so that copies fall on one side."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from hfscale import console
from hfscale.errors import DataError
from hfscale.schemas import SourceSettings

if TYPE_CHECKING:
    from datasets import Dataset

_MANY = 200  # documents: of fewer it would be chance how many a hash holds out


def hold_out_some(
    table: Dataset, fraction: float, settings: SourceSettings, column: str = "text"
) -> tuple[Dataset, Dataset]:
    """Whole documents, by a hash of the text in a column; one at least, and never all.

    Of fewer than 200 those with the lowest hashes, in the number asked for; of more, all below the fraction, so that
    new documents move no old one.

    Raises:
        DataError: where all are equal.
    """
    hashes = _hashes(table, column, settings.split_seed)
    number = max(1, round(fraction * len(table)))
    limit = fraction if len(table) >= _MANY else np.sort(hashes)[min(number, len(table) - 1)]
    is_held = hashes < min(max(limit, np.nextafter(hashes.min(), 1)), hashes.max())
    if not is_held.any():
        raise DataError(
            f"{settings.train}: its {len(table):,} documents are all equal, so that none can be held out; give "
            "--data.validation, or --data.validation_fraction 0"
        )
    return table.select(np.flatnonzero(~is_held)), table.select(np.flatnonzero(is_held))


def warn_of_shared(train: Dataset, validation: Dataset, kind: str, column: str = "text") -> None:
    """Count aloud the training documents (of this `kind`) whose column also stands in a validation source."""
    shared = int(np.isin(_hashes(train, column), _hashes(validation, column)).sum())
    if shared:
        console.warn(f"{shared:,} of {len(train):,} training {kind} also stand in the validation text")


def _hashes(table: Dataset, column: str, seed: int = 0) -> np.ndarray:
    """A number in [0, 1] for each document that looks random and is the same for the same text."""
    digests = (hashlib.blake2b(f"{seed}\0{text}".encode(), digest_size=8).digest() for text in table[column])
    return np.fromiter((int.from_bytes(digest) / 2**64 for digest in digests), np.float64, len(table))
