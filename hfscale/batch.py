"""What passes from data to training and evaluation."""

from __future__ import annotations

from typing import Any, NamedTuple

NO_LABEL = -100
"""In `labels` a position without a target; torch's losses leave it out too."""
FIRST_SOFT_TOKEN = 2**30
"""Ids from here on are no tokens of a vocabulary: they stand for the 1st, 2nd, ... embedding of a trained prompt
(`hfscale.models.soft_tokens`)."""


class Batch(NamedTuple):
    """Padded inputs of one forward pass, still on the CPU.

    A batch with `num_examples` 0 is a filler: it keeps the number of forward passes equal on all processes, holds one
    example so that the model can run, and counts for nothing.
    """

    inputs: dict[str, Any]
    """Keyword arguments of the model's forward, tensors of shape (batch, ...), and `labels`."""
    num_examples: int
    """Examples that count, 0 or (batch,)."""
    num_tokens: int
    """Real tokens, padding left out."""
    indices: tuple[int, ...] = ()
    """Row numbers in the data set, in the order of the batch."""
