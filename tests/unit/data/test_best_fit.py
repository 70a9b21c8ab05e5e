"""Which pieces share a sequence."""

from __future__ import annotations

import functools
import itertools
import operator

import numpy as np
import pytest

from hfscale.data import best_fit
from hfscale.data.best_fit import pack_best_fit


def members(lengths: np.ndarray, capacity: int) -> list[list[int]]:
    pieces, starts, cuts = pack_best_fit(lengths, capacity)
    assert not cuts
    assert starts[0] == 0 and starts[-1] == len(pieces)
    return [pieces[a:b].tolist() for a, b in itertools.pairwise(starts)]


@pytest.mark.parametrize("seed", range(20))
def test_every_piece_stands_in_one_sequence_that_holds_it(seed: int) -> None:
    draw = np.random.default_rng(seed)
    capacity = int(draw.integers(8, 200))
    lengths = draw.integers(1, capacity + 1, size=int(draw.integers(1, 400)))
    sequences = members(lengths, capacity)
    assert sorted(piece for sequence in sequences for piece in sequence) == list(range(len(lengths)))
    assert all(sequence and lengths[sequence].sum() <= capacity for sequence in sequences)
    assert members(lengths, capacity) == sequences
    # Best fit never leaves two sequences that could be one.
    half_empty = sum(2 * lengths[sequence].sum() <= capacity for sequence in sequences)
    assert half_empty <= 1


def test_the_fullest_sequence_with_room_is_taken() -> None:
    assert members(np.array([4, 6, 7, 3, 10]), 10) == [[4], [2, 3], [1, 0]]
    assert members(np.array([5, 8, 2]), 10) == [[1, 2], [0]]


def test_sequences_of_documents_like_real_ones_are_full() -> None:
    draw = np.random.default_rng(0)
    documents = draw.lognormal(5.5, 1.2, size=3000).astype(int) + 3
    pieces = np.concatenate([np.array([510] * (size // 510) + [size % 510 + 2]) for size in documents])
    assert pieces.sum() / (len(members(pieces, 512)) * 512) >= 0.98


def test_windows_bound_the_memory_and_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(best_fit, "_WINDOW", 7)
    lengths = np.random.default_rng(1).integers(1, 11, size=50)
    sequences = members(lengths, 10)
    assert sorted(functools.reduce(operator.iadd, sequences, [])) == list(range(50))
    assert all(len({piece // 7 for piece in sequence}) == 1 for sequence in sequences)


@pytest.mark.parametrize("frame", [1, 2])
@pytest.mark.parametrize("seed", range(10))
def test_cut_pieces_lose_nothing_and_fill_the_sequences(seed: int, frame: int) -> None:
    draw = np.random.default_rng(seed)
    capacity = int(draw.integers(128, 400))
    # The lengths that whole pieces can't fill with: a bit over half a sequence.
    lengths = draw.integers(capacity // 2 + 1, capacity // 2 + capacity // 6, size=int(draw.integers(100, 600)))
    packing = pack_best_fit(lengths, capacity, frame)
    content: dict[int, list[tuple[int, int]]] = {}
    sizes = []
    for a, b in itertools.pairwise(packing.starts):
        parts = {e: packing.cuts.get(e, (0, int(lengths[packing.pieces[e]]) - frame)) for e in range(a, b)}
        sizes.append(sum(end - begin + frame for begin, end in parts.values()))
        for entry, part in parts.items():
            content.setdefault(int(packing.pieces[entry]), []).append(part)
    assert max(sizes) <= capacity and min(sizes) > 0
    assert sorted(content) == list(range(len(lengths)))
    for piece, parts in content.items():
        edges = [edge for part in sorted(parts) for edge in part]
        assert edges[0] == 0 and edges[-1] == lengths[piece] - frame
        assert edges[1:-1:2] == edges[2:-1:2], "each token of the content once"
    assert sum(sizes) / (capacity * len(sizes)) >= 0.98
    assert len(pack_best_fit(lengths, capacity).starts) > 1.3 * len(packing.starts), "whole ones need more room"
    assert packing.cuts == pack_best_fit(lengths, capacity, frame).cuts


def test_full_sequences_are_left_alone() -> None:
    lengths = np.array([90, 10, 60, 40, 100])
    whole, cut = pack_best_fit(lengths, 100), pack_best_fit(lengths, 100, 2)
    assert not cut.cuts and cut.pieces.tolist() == whole.pieces.tolist()


def test_no_rooms_left_ends_it() -> None:
    assert not pack_best_fit(np.array([60]), 100, 2).cuts
    assert not pack_best_fit(np.array([95, 95, 95]), 100, 2).cuts, "rooms too small to be worth a cut"
