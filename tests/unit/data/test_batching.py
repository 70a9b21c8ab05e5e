"""Which examples share a step, and how a step is shared out over processes and micro-batches."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pytest

from hfscale.data import EvalBatches, TrainBatches
from hfscale.data.batching import epoch_order
from hfscale.errors import SettingsError
from tests.support.rows import lengths_table

LENGTHS = np.random.default_rng(0).integers(3, 60, size=1003)
TABLE = lengths_table([int(length) for length in LENGTHS[:45]], list(range(45)))


def train_batches(**changed: Any) -> TrainBatches:
    given: dict[str, Any] = {"pad_token_id": 0, "global_batch_size": 8, "micro_batch_size": None, "seed": 0, **changed}
    return TrainBatches(TABLE, **given)


@pytest.mark.parametrize("size", [1, 8, 17, 1003, 5000])
@pytest.mark.parametrize("epoch", [0, 3])
def test_an_epoch_holds_every_row_once(size: int, epoch: int) -> None:
    order = epoch_order(LENGTHS, size, seed=1, epoch=epoch)
    assert sorted(np.concatenate(order).tolist()) == list(range(len(LENGTHS)))
    assert len(order) == -(-len(LENGTHS) // size)
    assert sum(len(batch) != size for batch in order) == (len(LENGTHS) % size != 0)


def test_the_order_depends_on_seed_epoch_and_size_alone() -> None:
    def of(**changed: int) -> list[list[int]]:
        given = {"global_batch_size": 8, "seed": 0, "epoch": 1, **changed}
        return [batch.tolist() for batch in epoch_order(LENGTHS, **given)]

    np.random.seed(1)
    first = of()
    np.random.seed(2)
    assert of() == first
    assert of(seed=1) != first and of(epoch=2) != first and of(global_batch_size=16) != first


@pytest.mark.parametrize("seed", range(5))
def test_the_first_step_is_the_longest(seed: int) -> None:
    order = epoch_order(LENGTHS, 8, seed, epoch=0)
    padded = [int(LENGTHS[batch].max()) * len(batch) for batch in order]
    assert padded[0] == max(padded)


def test_later_epochs_do_not_start_with_the_longest() -> None:
    starts = [int(LENGTHS[epoch_order(LENGTHS, 8, 0, epoch)[0]].max()) for epoch in range(1, 9)]
    assert len(set(starts)) > 1


def test_steps_hold_similar_lengths_in_random_order() -> None:
    order = epoch_order(LENGTHS, 8, seed=0, epoch=1)
    padded = sum(int(LENGTHS[batch].max()) * len(batch) for batch in order)
    assert padded < 1.1 * LENGTHS.sum()
    means = [LENGTHS[batch].mean() for batch in order]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


@pytest.mark.parametrize("num_processes, micro", [(1, None), (1, 2), (2, None), (2, 2), (4, 1), (8, 1), (1, 8)])
def test_a_step_is_shared_out_whole(num_processes: int, micro: int | None) -> None:
    one = train_batches()
    parts = [
        train_batches(micro_batch_size=micro, num_processes=num_processes, process_index=index)
        for index in range(num_processes)
    ]
    for step in range(2 * one.steps_per_epoch):
        micro_batches = [part[step] for part in parts]
        assert {len(batches) for batches in micro_batches} == {parts[0].accumulation_steps}
        rows = [row for batches in micro_batches for batch in batches for row in batch.indices]
        assert sorted(rows) == sorted(one.examples_of(step).tolist())
        for batch in (batch for batches in micro_batches for batch in batches):
            assert batch.num_examples == len(batch.indices) <= (micro or 8)
            assert batch.num_tokens == sum(int(LENGTHS[row]) for row in batch.indices)


def test_the_last_step_of_an_epoch_may_need_fillers() -> None:
    parts = [train_batches(micro_batch_size=1, num_processes=4, process_index=index) for index in range(4)]
    step = next(s for s in range(parts[0].steps_per_epoch) if len(parts[0].examples_of(s)) == 45 % 8)
    fillers = [batch for part in parts for batch in part[step] if not batch.num_examples]
    assert len(fillers) == 8 - 45 % 8
    for batch in fillers:
        assert (batch.num_tokens, batch.indices) == (0, ())
        assert batch.inputs["input_ids"].shape[0] == 1 and batch.inputs["attention_mask"].sum() > 0


def test_epochs_follow_each_other() -> None:
    batches = train_batches()
    assert batches.steps_per_epoch == 6
    for epoch in range(3):
        rows = np.concatenate([batches.examples_of(epoch * 6 + step) for step in range(6)])
        assert sorted(rows.tolist()) == list(range(45))
    assert batches.examples_of(1).tolist() != batches.examples_of(7).tolist()


@pytest.mark.parametrize("multiple", [1, 8])
def test_a_batch_is_padded_and_masked(multiple: int) -> None:
    for batch in (batch for step in range(6) for batch in train_batches(pad_multiple=multiple, pad_token_id=77)[step]):
        ids, mask, labels = (batch.inputs[name] for name in ("input_ids", "attention_mask", "labels"))
        longest = max(int(LENGTHS[row]) for row in batch.indices)
        assert ids.shape == mask.shape == (len(batch.indices), -(-longest // multiple) * multiple)
        assert labels.tolist() == list(batch.indices)
        for row, tokens, ones in zip(batch.indices, ids.tolist(), mask.tolist(), strict=True):
            length = int(LENGTHS[row])
            assert tokens == [row + 1] * length + [77] * (len(tokens) - length)
            assert ones == [1] * length + [0] * (len(tokens) - length)


@pytest.mark.parametrize(
    "labels, dtype", [([1, 0, 2], "int64"), ([0.5, 1.0, 2.0], "float32"), ([[0.0, 1.0]] * 3, "float32")]
)
def test_labels_are_tensors_of_their_kind(labels: list[Any], dtype: str) -> None:
    table = lengths_table([3, 4, 5], labels)
    (batch,) = TrainBatches(table, pad_token_id=0, global_batch_size=3, micro_batch_size=None, seed=0)[0]
    assert str(batch.inputs["labels"].dtype) == f"torch.{dtype}"
    assert batch.inputs["labels"].tolist() == [labels[row] for row in batch.indices]


@pytest.mark.parametrize(
    "size, micro, processes, nearest", [(8, 3, 1, 9), (8, 2, 3, 6), (8, None, 3, 9), (8, 16, 1, 16), (2, None, 8, 8)]
)
def test_sizes_that_do_not_divide_are_told_one_that_does(
    size: int, micro: int | None, processes: int, nearest: int
) -> None:
    with pytest.raises(SettingsError) as caught:
        train_batches(global_batch_size=size, micro_batch_size=micro, num_processes=processes)
    assert f"--train.global_batch_size {size} is not a multiple" in str(caught.value)
    assert str(caught.value).endswith(f"; {nearest} is")
    train_batches(global_batch_size=nearest, micro_batch_size=micro, num_processes=processes)


@pytest.mark.parametrize("num_processes", [1, 2, 3, 7])
@pytest.mark.parametrize("batch_size", [1, 4, 45, 100])
def test_an_evaluation_sees_every_row_once(num_processes: int, batch_size: int) -> None:
    parts = [
        list(EvalBatches(TABLE, pad_token_id=0, batch_size=batch_size, process_index=i, num_processes=num_processes))
        for i in range(num_processes)
    ]
    assert len({len(part) for part in parts}) == 1
    batches = [batch for part in parts for batch in part]
    assert sorted(row for batch in batches for row in batch.indices) == list(range(45))
    assert all(batch.num_examples == len(batch.indices) for batch in batches)
    assert all(len(batch.inputs["input_ids"]) == max(1, batch.num_examples) for batch in batches)


def test_an_evaluation_can_be_run_again() -> None:
    batches = EvalBatches(TABLE, pad_token_id=0, batch_size=8)
    assert [batch.indices for batch in batches] == [batch.indices for batch in batches]
    assert batches.num_examples == 45


def test_padding_on_the_left() -> None:
    table = datasets.Dataset.from_dict({"input_ids": [[5, 6, 7], [8]], "length": [3, 1], "labels": [0, 1]})
    (batch,) = EvalBatches(table, pad_token_id=9, padding_side="left", batch_size=2)
    assert batch.inputs["input_ids"].tolist() == [[5, 6, 7], [9, 9, 8]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]


@pytest.mark.parametrize("target", ["labels", "token_labels"])
def test_only_what_a_batch_holds_is_read(target: str) -> None:
    columns = {"input_ids": [[5, 6], [7]], "token_type_ids": [[0, 1], [0]], "length": [2, 1], "text": ["a", "b"]}
    targets = {"labels": [1, 0], "token_labels": [[1, 0], [2]]}[target]
    table = datasets.Dataset.from_dict({**columns, "starts": [[0, 1], [0]], target: targets})
    batches = EvalBatches(table, pad_token_id=0, batch_size=2)
    assert set(batches._rows.table.column_names) == {"input_ids", "token_type_ids", target}
    (batch,) = batches
    assert set(batch.inputs) == {"input_ids", "token_type_ids", "attention_mask", "labels"}
    assert batch.inputs["labels"].tolist() == ([1, 0] if target == "labels" else [[1, 0], [2, -100]])


def test_the_fingerprint_is_that_of_the_examples() -> None:
    """Whatever they are batched in; one label or one token that is another makes another."""

    def printed(lengths: list[int], labels: list[int], **changed: int) -> str:
        sizes = {"global_batch_size": 2, "micro_batch_size": None, "seed": 0, **changed}
        return TrainBatches(lengths_table(lengths, labels), pad_token_id=0, **sizes).fingerprint  # type: ignore[arg-type]

    first = printed([3, 5, 4], [0, 1, 0])
    assert first == printed([3, 5, 4], [0, 1, 0], global_batch_size=1, seed=3, pad_multiple=8)
    assert len({first, printed([3, 5, 4], [0, 1, 1]), printed([3, 4, 5], [0, 1, 0]), printed([3, 5], [0, 1])}) == 4
