"""Batches of packed sequences, in an order that is a pure function of (seed, epoch, global batch size)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from hfscale.batch import Batch
from hfscale.data.batching import accumulation_steps, in_rounds
from hfscale.data.fingerprint import fingerprint
from hfscale.data.objectives import HELD_OUT, Objective
from hfscale.data.packing import PackedSequences
from hfscale.errors import DataError


class PackedTrainBatches:
    """This process's micro-batches of every optimizer step; an example is a sequence.

    Args:
        pad_multiple: widths are rounded up to a multiple of this (8 for the tensor cores of a GPU).

    Raises:
        DataError: for fewer sequences than one global batch.
        SettingsError: where the global batch is not a multiple of micro-batch size times processes.
    """

    def __init__(
        self,
        packed: PackedSequences,
        objective: Objective,
        *,
        pad_token_id: int,
        pad_multiple: int = 1,
        global_batch_size: int,
        micro_batch_size: int | None,
        seed: int,
        process_index: int = 0,
        num_processes: int = 1,
    ) -> None:
        self.accumulation_steps = accumulation_steps(global_batch_size, micro_batch_size, num_processes)
        if len(packed) < global_batch_size:
            shorter = " a smaller --data.max_length," if packed.is_packed else ""
            raise DataError(
                f"the data fill {len(packed):,} sequences of {packed.max_length} tokens, fewer than one batch; give "
                f"more,{shorter} or --train.global_batch_size {len(packed)} at most"
            )
        self._rows = _Rows(packed, objective, pad_token_id, pad_multiple)
        self._global, self._seed = global_batch_size, seed
        self._num_sequences, self._packed = len(packed), packed
        self._process, self._num_processes = process_index, num_processes
        self.steps_per_epoch = -(-len(packed) // global_batch_size)
        self._order = lru_cache(maxsize=2)(self._epoch_order)

    @property
    def fingerprint(self) -> str:
        """Of the sequences, not of their order."""
        return fingerprint(np.array([self._num_sequences]), self._packed.content())

    def __getitem__(self, step: int) -> list[Batch]:
        """The micro-batches of optimizer step `step` (from 0, over all epochs), the same number on all processes."""
        rows, epoch = self.examples_of(step), step // self.steps_per_epoch
        slices = np.array_split(rows, self.accumulation_steps * self._num_processes)
        return [self._rows.batch(part, rows[:1], epoch) for part in slices[self._process :: self._num_processes]]

    def examples_of(self, step: int) -> np.ndarray:
        """Sequences that optimizer step `step` learns from, over all processes."""
        epoch, index = divmod(step, self.steps_per_epoch)
        return self._order(epoch)[index * self._global : (index + 1) * self._global]

    def _epoch_order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self._seed, epoch]).permutation(self._num_sequences)


class PackedEvalBatches:
    """Every held-out sequence once over all processes; each makes the same number of forward passes."""

    def __init__(
        self,
        packed: PackedSequences,
        objective: Objective,
        *,
        pad_token_id: int,
        pad_multiple: int = 1,
        batch_size: int,
        process_index: int = 0,
        num_processes: int = 1,
    ) -> None:
        self._rows = _Rows(packed, objective, pad_token_id, pad_multiple)
        self._process, self._num_processes = process_index, num_processes
        self._batches = [np.arange(i, min(i + batch_size, len(packed))) for i in range(0, len(packed), batch_size)]

    def __iter__(self) -> Iterator[Batch]:
        for part in in_rounds(self._batches, self._process, self._num_processes):
            yield self._rows.batch(part, self._batches[-1][:1], HELD_OUT)


class _Rows:
    """Packed sequences as model inputs."""

    def __init__(self, packed: PackedSequences, objective: Objective, pad_token_id: int, pad_multiple: int) -> None:
        self._packed, self._objective = packed, objective
        self._pad, self._multiple = pad_token_id, pad_multiple

    def batch(self, rows: np.ndarray, filler: np.ndarray, epoch: int) -> Batch:
        """`input_ids`, `labels`, `position_ids` that restart with every piece, and `piece_ids`, 0 for padding."""
        import torch

        numbers = rows if len(rows) else filler
        sequences = [self._packed.pieces_of(int(number)) for number in numbers]
        num_tokens = sum(len(piece) for pieces in sequences for piece in pieces)
        longest = max(sum(len(piece) for piece in pieces) for pieces in sequences)
        width = min(-(-longest // self._multiple) * self._multiple, self._packed.max_length)
        ids = np.full((len(numbers), width), self._pad, dtype=np.int64)
        positions = np.zeros_like(ids)
        piece_ids = np.zeros_like(ids)
        for row, pieces in enumerate(sequences):
            at = 0
            for number, piece in enumerate(pieces, start=1):
                end = at + len(piece)
                ids[row, at:end], positions[row, at:end], piece_ids[row, at:end] = piece, np.arange(end - at), number
                at = end
        ids, labels = self._objective(ids, piece_ids, numbers, epoch)
        arrays = {"input_ids": ids, "labels": labels, "position_ids": positions, "piece_ids": piece_ids}
        inputs: dict[str, Any] = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return Batch(inputs, len(rows), num_tokens if len(rows) else 0, tuple(rows.tolist()))
