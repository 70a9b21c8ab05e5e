"""Batches of packed sequences: the same order and the same labels, however a step is split."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from hfscale.data.objectives import IGNORED, MaskedTokens, next_tokens
from hfscale.data.packed_batching import PackedEvalBatches, PackedTrainBatches
from hfscale.data.packing import PackedSequences
from hfscale.errors import DataError, SettingsError

PAD = 0
MAX_LENGTH = 16


@pytest.fixture(scope="module")
def packed() -> PackedSequences:
    import datasets

    draw = np.random.default_rng(0)
    pieces = [draw.integers(5, 25, size=draw.integers(2, 17)).tolist() for _ in range(60)]
    features = datasets.Features({"input_ids": datasets.List(datasets.Value("int32"))})
    return PackedSequences(datasets.Dataset.from_dict({"input_ids": pieces}, features=features), MAX_LENGTH, "decoder")


def train_batches(packed: PackedSequences, objective: Any = next_tokens, **changed: Any) -> PackedTrainBatches:
    options = {"pad_token_id": PAD, "global_batch_size": 8, "micro_batch_size": None, "seed": 0}
    return PackedTrainBatches(packed, objective, **{**options, **changed})


def by_sequence(batches: list[Any]) -> dict[int, tuple[list[int], ...]]:
    """Sequence -> its ids, labels, positions and piece numbers without padding."""
    names = ("input_ids", "labels", "position_ids", "piece_ids")
    rows = {}
    for batch in batches:
        for place, index in enumerate(batch.indices):
            real = batch.inputs["piece_ids"][place] > 0
            rows[index] = tuple(batch.inputs[name][place][real].tolist() for name in names)
    return rows


def test_inputs_of_a_batch(packed: PackedSequences) -> None:
    (batch,) = train_batches(packed)[0]
    inputs = batch.inputs
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in inputs.items()} == {
        name: (torch.int64, inputs["input_ids"].shape) for name in ("input_ids", "labels", "position_ids", "piece_ids")
    }
    num_tokens = 0
    for place, index in enumerate(batch.indices):
        at = 0
        for number, piece in enumerate(packed.pieces_of(index), start=1):
            span = slice(at, at + len(piece))
            assert inputs["input_ids"][place, span].tolist() == piece.tolist()
            assert inputs["position_ids"][place, span].tolist() == list(range(len(piece)))
            assert inputs["piece_ids"][place, span].eq(number).all()
            assert inputs["labels"][place, span].tolist() == [*piece[1:].tolist(), IGNORED]
            at += len(piece)
        assert inputs["input_ids"][place, at:].eq(PAD).all()
        assert inputs["piece_ids"][place, at:].eq(0).all()
        assert inputs["labels"][place, at:].eq(IGNORED).all()
        num_tokens += at
    assert (batch.num_examples, batch.num_tokens) == (8, num_tokens)


def test_every_sequence_once_per_epoch_and_in_another_order_in_the_next(packed: PackedSequences) -> None:
    batches = train_batches(packed)
    steps = batches.steps_per_epoch
    assert steps == -(-len(packed) // 8) and len(packed) % 8, "the last step of an epoch is a smaller one"
    epochs = [[row for step in range(steps) for row in batches.examples_of(e * steps + step)] for e in range(3)]
    assert all(sorted(epoch) == list(range(len(packed))) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    again, other = train_batches(packed), train_batches(packed, seed=1)
    assert (again.examples_of(steps + 1) == batches.examples_of(steps + 1)).all()
    assert other.examples_of(0).tolist() != batches.examples_of(0).tolist()


@pytest.mark.parametrize("num_processes, micro", [(1, 8), (1, 2), (1, 1), (2, 2), (4, 2), (8, 1)])
def test_order_and_masks_do_not_depend_on_the_split(
    packed: PackedSequences, tiny_tokenizer: Any, num_processes: int, micro: int
) -> None:
    mask = MaskedTokens(tiny_tokenizer, fraction=0.3, whole_words=False, seed=0, max_length=MAX_LENGTH)
    whole = train_batches(packed, mask)
    processes = [
        train_batches(packed, mask, micro_batch_size=micro, process_index=index, num_processes=num_processes)
        for index in range(num_processes)
    ]
    for step in (0, whole.steps_per_epoch - 1, whole.steps_per_epoch):
        (one,) = whole[step]
        parts = [process[step] for process in processes]
        assert len({len(part) for part in parts}) == 1, "each process makes the same number of forward passes"
        every = [batch for part in parts for batch in part]
        assert all(len(batch.indices) <= micro for batch in every)
        assert by_sequence(every) == by_sequence([one])
        assert sum(batch.num_examples for batch in every) == one.num_examples
        assert sum(batch.num_tokens for batch in every) == one.num_tokens
        assert all(len(batch.inputs["input_ids"]) for batch in every), "also a filler has a row to run on"


def test_masks_differ_between_epochs(packed: PackedSequences, tiny_tokenizer: Any) -> None:
    mask = MaskedTokens(tiny_tokenizer, fraction=0.3, whole_words=False, seed=0, max_length=MAX_LENGTH)
    batches = train_batches(packed, mask)
    steps = batches.steps_per_epoch
    first, second = (by_sequence([b for step in range(e, e + steps) for b in batches[step]]) for e in (0, steps))
    assert first.keys() == second.keys()
    assert sum(first[row][1] != second[row][1] for row in first) > 0.9 * len(first)
    assert by_sequence(batches[1]) == by_sequence(batches[1])


@pytest.mark.parametrize("num_processes", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_each_held_out_sequence_once_on_any_number_of_processes(
    packed: PackedSequences, tiny_tokenizer: Any, num_processes: int, batch_size: int
) -> None:
    mask = MaskedTokens(tiny_tokenizer, fraction=0.3, whole_words=False, seed=0, max_length=MAX_LENGTH)
    options: dict[str, Any] = {"pad_token_id": PAD, "batch_size": batch_size, "num_processes": num_processes}
    parts = [list(PackedEvalBatches(packed, mask, process_index=index, **options)) for index in range(num_processes)]
    assert len({len(part) for part in parts}) == 1
    every = [batch for part in parts for batch in part]
    assert Counter(row for batch in every for row in batch.indices) == dict.fromkeys(range(len(packed)), 1)
    assert sum(batch.num_tokens for batch in every) == packed.num_tokens
    fillers = [batch for batch in every if not batch.num_examples]
    assert len(fillers) == len(every) - -(-len(packed) // batch_size)
    assert all(batch.num_tokens == 0 and len(batch.inputs["labels"]) == 1 for batch in fillers)
    alone = PackedEvalBatches(packed, mask, pad_token_id=PAD, batch_size=5)
    assert by_sequence(every) == by_sequence(list(alone)), "masked the same way at each evaluation"


def test_widths_are_rounded_up_but_not_beyond_a_sequence(packed: PackedSequences) -> None:
    exact = {batch.inputs["input_ids"].shape[1] for step in range(9) for batch in train_batches(packed)[step]}
    assert max(exact) <= MAX_LENGTH
    batches = train_batches(packed, pad_multiple=5, micro_batch_size=1)
    widths = {batch.inputs["input_ids"].shape[1] for step in range(9) for batch in batches[step]}
    assert widths <= {5, 10, 15, MAX_LENGTH}


def test_fewer_sequences_than_a_batch(packed: PackedSequences) -> None:
    with pytest.raises(DataError, match=rf"--train.global_batch_size {len(packed)} at most"):
        train_batches(packed, global_batch_size=len(packed) + 1)
    with pytest.raises(SettingsError, match=r"--train.micro_batch_size"):
        train_batches(packed, micro_batch_size=3)
