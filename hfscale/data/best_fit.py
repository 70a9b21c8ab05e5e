"""Which pieces share a sequence: best-fit packing, and cutting a few pieces where whole ones leave too much room."""

from __future__ import annotations

import heapq
import itertools
from typing import NamedTuple

import numpy as np

_WINDOW = 2**18  # pieces that are packed together: bounds the memory, costs nothing in tightness
_FILL = 0.985  # pieces are cut only where whole ones leave more room than this
_SHORTEST = 8  # content of a part, where it can be chosen: a few tokens by themselves teach little


Part = tuple[int, int, int]
"""(piece, begin, end) in the content of the piece."""


class Packing(NamedTuple):
    """Sequences of pieces."""

    pieces: np.ndarray
    """(entries,) piece numbers, sequence after sequence."""
    starts: np.ndarray
    """(sequences + 1,) where each sequence begins among the entries, and the end."""
    cuts: dict[int, tuple[int, int]]
    """Entry -> (begin, end) in the content of its piece, for the entries that hold but a part of it."""


def pack_best_fit(lengths: np.ndarray, capacity: int, frame: int | None = None) -> Packing:
    """The longest piece first, into the fullest sequence that still has room for it.

    Best-fit decreasing, as Ding et al. 2024 ("Fewer Truncations Improve Language Modeling") use it for pretraining.
    Pieces that are nearly all a little longer than half a sequence find no partners that way. With `frame` given, the
    emptiest sequences are then dissolved into the rooms of the others until 98.5% is full, which cuts their pieces.
    The same lengths give the same sequences.

    Args:
        lengths: (pieces,) tokens of each piece, `capacity` at most.
        frame: tokens of a piece that each part of it has again; the others are its content. None: all stay whole.
    """
    assert lengths.max() <= capacity
    pieces: list[np.ndarray] = []
    sizes: list[int] = []
    cuts: dict[int, tuple[int, int]] = {}
    entries = 0
    for begin in range(0, len(lengths), _WINDOW):
        window = lengths[begin : begin + _WINDOW].tolist()
        sequences = _best_fit(window, capacity)
        if frame is not None:
            sequences, parts = _dissolve_emptiest(sequences, window, capacity, frame)
            cuts |= {entries + entry: part for entry, part in parts.items()}
        pieces.append(begin + np.fromiter(itertools.chain.from_iterable(sequences), dtype=np.int64))
        sizes += map(len, sequences)
        entries += len(pieces[-1])
    return Packing(np.concatenate(pieces), np.cumsum([0, *sizes]), cuts)


def _best_fit(lengths: list[int], capacity: int) -> list[list[int]]:
    """Sequences by their free room; bit `r` of `rooms` says that a sequence with room `r` is open."""
    sequences: list[list[int]] = []
    open_with: list[list[int]] = [[] for _ in range(capacity + 1)]
    rooms = 0
    for piece in sorted(range(len(lengths)), key=lambda piece: -lengths[piece]):
        length = lengths[piece]
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1  # the smallest room that is enough
            sequence = open_with[room].pop()
            if not open_with[room]:
                rooms ^= 1 << room
        else:
            room, sequence = capacity, len(sequences)
            sequences.append([])
        sequences[sequence].append(piece)
        room -= length
        if room:
            open_with[room].append(sequence)
            rooms |= 1 << room
    return sequences


def _dissolve_emptiest(
    sequences: list[list[int]], lengths: list[int], capacity: int, frame: int
) -> tuple[list[list[int]], dict[int, tuple[int, int]]]:
    """(the sequences that are left, `Packing.cuts` of them)."""
    filled = [[(piece, 0, lengths[piece] - frame) for piece in sequence] for sequence in sequences]
    rooms = [(sum(lengths[piece] for piece in sequence) - capacity, n) for n, sequence in enumerate(sequences)]
    heapq.heapify(rooms)  # the largest room first, as a negative number
    tokens = sum(lengths)
    while tokens < _FILL * capacity * len(rooms):
        _, emptiest = heapq.heappop(rooms)
        placed = _place(filled[emptiest], rooms, frame)
        if placed is None:
            break
        for room, number, part in placed:
            filled[number].append(part)
            heapq.heappush(rooms, (room, number))
        tokens += frame * (len(placed) - len(filled[emptiest]))
        filled[emptiest] = []
    kept = [parts for parts in filled if parts]
    every = enumerate(itertools.chain.from_iterable(kept))
    cuts = {entry: (a, b) for entry, (piece, a, b) in every if b - a < lengths[piece] - frame}
    return [[piece for piece, _, _ in parts] for parts in kept], cuts


def _place(parts: list[Part], rooms: list[tuple[int, int]], frame: int) -> list[tuple[int, int, Part]] | None:
    """Put all content of `parts` into the largest rooms, taken from the heap: (room that is left, sequence, part) of
    each; None where they are too small."""
    placed: list[tuple[int, int, Part]] = []
    for piece, begin, end in parts:
        while begin < end:
            if not rooms:
                return None
            room, number = heapq.heappop(rooms)
            taken = min(end - begin, -room - frame)
            if taken < min(end - begin, _SHORTEST):
                return None
            if 0 < end - begin - taken < _SHORTEST <= taken - _SHORTEST:
                taken = end - begin - _SHORTEST  # leave no shorter rest
            placed.append((room + frame + taken, number, (piece, begin, begin + taken)))
            begin += taken
    return placed
