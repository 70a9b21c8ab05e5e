"""The order of the examples, and batches of similar lengths.

The order is a pure function of (seed, epoch, global batch size): neither the number of processes nor the micro-batch
size changes which examples share an optimizer step. A step's examples are found from its number alone, so that
resuming is O(1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hfscale.batch import NO_LABEL, Batch
from hfscale.data.fingerprint import content_of, fingerprint
from hfscale.errors import SettingsError

if TYPE_CHECKING:
    from datasets import Dataset

_CHUNK_BATCHES = (
    64  # global batches that are sorted by length together: enough for tight buckets, random over the data
)
_READ = ("input_ids", "token_type_ids", "token_labels", "labels", "target_ids")


def epoch_order(lengths: np.ndarray, global_batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Row numbers of each optimizer step of an epoch; every row once, the last batch possibly smaller.

    Rows are shuffled, sorted by length within chunks of 64 global batches, cut, and the batches shuffled. The very
    first step gets the longest batch: what doesn't fit into memory fails at once, not an hour later.

    Args:
        lengths: (rows,), or (rows, 2) of texts to read and to write: similar on both sides are those of a batch.
    """
    generator = np.random.default_rng([seed, epoch])
    shuffled = generator.permutation(len(lengths))
    batches: list[np.ndarray] = []
    for start in range(0, len(shuffled), global_batch_size * _CHUNK_BATCHES):
        chunk = shuffled[start : start + global_batch_size * _CHUNK_BATCHES]
        chunk = chunk[longest_first(lengths[chunk])]
        batches += [chunk[i : i + global_batch_size] for i in range(0, len(chunk), global_batch_size)]
    order = generator.permutation(len(batches))
    if epoch == 0:
        longest = max(range(len(batches)), key=lambda b: int(lengths[batches[b]].max(axis=0).sum()) * len(batches[b]))
        first = int(np.flatnonzero(order == longest)[0])
        order[0], order[first] = order[first], order[0]
    return [batches[i] for i in order]


def longest_first(lengths: np.ndarray) -> np.ndarray:
    """Row numbers by falling length, equal ones in their order.

    Of (rows, 2) by the first length, two neighbouring ones together, and among these by the second, falling and rising
    by turns: where one group ends, the next begins with rows of similar lengths. On translations of captions that
    leaves 7% of padding in batches of 32, where the first length alone leaves 18%.
    """
    if lengths.ndim == 1:
        return np.argsort(-lengths, kind="stable")
    first, second = lengths[:, 0] // 2, lengths[:, 1]
    return np.lexsort((np.where(first % 2, second, -second), -first))


def in_rounds(batches: Sequence[np.ndarray], process_index: int, num_processes: int) -> Iterator[np.ndarray]:
    """This process's batches of row numbers; empty ones fill up the last round, so that all make as many passes."""
    rounds = -(-len(batches) // num_processes)
    for index in range(process_index, rounds * num_processes, num_processes):
        yield batches[index] if index < len(batches) else np.empty(0, dtype=np.int64)


class TrainBatches:
    """This process's micro-batches of every optimizer step.

    Args:
        table: tokenized examples (`hfscale.data.tokenize`).
        pad_token_id: what fills up `input_ids`.
        padding_side: the tokenizer's, `left` or `right`.
        pad_multiple: widths are rounded up to a multiple of this: 8 for the tensor cores of a GPU; on a CPU every
            position costs, and 1 is faster.
        global_batch_size: examples per optimizer step over all processes.
        micro_batch_size: examples per forward pass; None for the whole share of a process.

    Raises:
        SettingsError: where the global batch is not a multiple of micro-batch size times processes.
    """

    def __init__(
        self,
        table: Dataset,
        *,
        pad_token_id: int,
        padding_side: str = "right",
        pad_multiple: int = 1,
        global_batch_size: int,
        micro_batch_size: int | None,
        seed: int,
        process_index: int = 0,
        num_processes: int = 1,
    ) -> None:
        self._rows = _Rows(table, pad_token_id, padding_side, pad_multiple)
        self._global, self._seed = global_batch_size, seed
        self._process, self._num_processes = process_index, num_processes
        self.accumulation_steps = accumulation_steps(global_batch_size, micro_batch_size, num_processes)
        self.steps_per_epoch = -(-len(table) // global_batch_size)
        self._order = lru_cache(maxsize=2)(self._epoch_order)

    @property
    def fingerprint(self) -> str:
        """Of the examples, not of their order."""
        return fingerprint(self._rows.lengths, content_of(self._rows.table))

    def __getitem__(self, step: int) -> list[Batch]:
        """The micro-batches of optimizer step `step` (from 0, over all epochs) on this process, in order.

        All processes get the same number. Neighbours in length run at the same time on different processes. A step
        with fewer examples than micro-batches is filled up with batches that count for nothing.
        """
        rows = self.examples_of(step)
        slices = np.array_split(rows, self.accumulation_steps * self._num_processes)
        return [self._rows.batch(part, filler=rows[:1]) for part in slices[self._process :: self._num_processes]]

    def examples_of(self, step: int) -> np.ndarray:
        """Row numbers that optimizer step `step` learns from, over all processes."""
        epoch, index = divmod(step, self.steps_per_epoch)
        return self._order(epoch)[index]

    def _epoch_order(self, epoch: int) -> list[np.ndarray]:
        return epoch_order(self._rows.lengths, self._global, self._seed, epoch)


class EvalBatches:
    """Every example once over all processes, longest first; each process makes the same number of forward passes."""

    def __init__(
        self,
        table: Dataset,
        *,
        pad_token_id: int,
        padding_side: str = "right",
        pad_multiple: int = 1,
        batch_size: int,
        process_index: int = 0,
        num_processes: int = 1,
    ) -> None:
        self._rows = _Rows(table, pad_token_id, padding_side, pad_multiple)
        self._process, self._num_processes = process_index, num_processes
        order = longest_first(self._rows.lengths)
        self._batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        self.num_examples = len(table)

    def __iter__(self) -> Iterator[Batch]:
        for part in in_rounds(self._batches, self._process, self._num_processes):
            yield self._rows.batch(part, filler=self._batches[-1][:1])


class _Rows:
    """Rows of a tokenized table, padded into batches."""

    def __init__(self, table: Dataset, pad_token_id: int, padding_side: str, pad_multiple: int) -> None:
        self._left = padding_side == "left"
        read = [name for name in _READ if name in table.column_names]  # decoding the others costs time in every batch
        self.table = table.with_format(None).select_columns(read)
        self._multiple = pad_multiple
        self._padding = {"input_ids": pad_token_id, "token_type_ids": 0}
        sides = [np.asarray(table[name][:]) for name in ("length", "target_length") if name in table.column_names]
        self.lengths = sides[0] if len(sides) == 1 else np.stack(sides, axis=-1)

    def batch(self, rows: np.ndarray, filler: np.ndarray) -> Batch:
        """The rows as one batch, or a filler batch where there are none."""
        import torch

        columns: dict[str, list[Any]] = self.table[(rows if len(rows) else filler).tolist()]  # type: ignore[assignment]
        lengths = [len(ids) for ids in columns["input_ids"]]
        width = self._width(columns["input_ids"])
        inputs = {
            name: _padded(columns[name], width, fill, self._left)
            for name, fill in self._padding.items()
            if name in columns
        }
        inputs["attention_mask"] = _padded([[1] * length for length in lengths], width, 0, self._left)
        if "token_labels" in columns:
            inputs["labels"] = _padded(columns["token_labels"], width, NO_LABEL, self._left)
        elif "target_ids" in columns:
            targets = columns["target_ids"]
            inputs["labels"] = _padded(targets, self._width(targets), NO_LABEL, left=False)
            lengths += map(len, targets)
        elif "labels" in columns:
            inputs["labels"] = torch.tensor(columns["labels"])
        return Batch(inputs, len(rows), sum(lengths) if len(rows) else 0, tuple(rows.tolist()))

    def _width(self, sequences: Sequence[Sequence[int]]) -> int:
        return -(-max(map(len, sequences)) // self._multiple) * self._multiple


def _padded(sequences: Sequence[Sequence[int]], width: int, fill: int, left: bool) -> Any:
    import torch

    array = np.full((len(sequences), width), fill, dtype=np.int64)
    for row, sequence in enumerate(sequences):
        start = width - len(sequence) if left else 0
        array[row, start : start + len(sequence)] = sequence
    return torch.from_numpy(array)


def accumulation_steps(global_batch_size: int, micro_batch_size: int | None, num_processes: int) -> int:
    if micro_batch_size is None:
        if global_batch_size % num_processes:
            raise SettingsError(
                f"--train.global_batch_size {global_batch_size} is not a multiple of {num_processes} processes; "
                f"{num_processes * max(1, round(global_batch_size / num_processes))} is"
            )
        return 1
    together = micro_batch_size * num_processes
    if global_batch_size % together:
        nearest = together * max(1, round(global_batch_size / together))
        raise SettingsError(
            f"--train.global_batch_size {global_batch_size} is not a multiple of --train.micro_batch_size "
            f"{micro_batch_size} x {num_processes} process{'es' if num_processes > 1 else ''}; {nearest} is"
        )
    return global_batch_size // together
