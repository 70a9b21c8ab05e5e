"""Documents become pieces, pieces sequences; nothing is lost on the way, and the sequences are full."""

from __future__ import annotations

import copy
import itertools
from typing import Any, Literal

import numpy as np
import pytest

from hfscale.data import packing
from hfscale.data.corpus import Corpus
from hfscale.data.packing import PackedSequences, pack_corpus, tokenize_corpus
from hfscale.errors import DataError, ModelError

CLS, SEP = 2, 3


def table_of(texts: list[str]) -> Any:
    import datasets

    where = [f"made.txt line {number}" for number in range(1, len(texts) + 1)]
    return datasets.Dataset.from_dict({"text": texts, "where": where})


@pytest.mark.parametrize("max_length", [8, 9, 33])
@pytest.mark.parametrize("size", [0, 1, 5, 6, 7, 8, 12, 13, 31, 32, 33, 100])
def test_a_decoder_predicts_each_token_and_the_end_exactly_once(size: int, max_length: int) -> None:
    tokens = list(range(100, 100 + size))
    pieces = packing._decoder_pieces(tokens, 1, 2, max_length)
    assert [token for piece in pieces for token in piece[1:]] == [*tokens, 2]
    assert pieces[0][0] == 1
    assert all(2 <= len(piece) <= max_length for piece in pieces)
    assert all(later[0] == before[-1] for before, later in itertools.pairwise(pieces))


@pytest.mark.parametrize("size", [0, 1, 5, 6, 7, 12, 13, 100])
def test_an_encoder_sees_each_token_exactly_once(size: int) -> None:
    tokens = list(range(100, 100 + size))
    pieces = packing._encoder_pieces(tokens, CLS, SEP, 8)
    assert [token for piece in pieces for token in piece[1:-1]] == tokens
    assert all(piece[0] == CLS and piece[-1] == SEP and 3 <= len(piece) <= 8 for piece in pieces)


def test_tokenizing_frames_and_cuts(tiny_tokenizer: Any) -> None:
    tokens = tiny_tokenizer("the film was really good", add_special_tokens=False)["input_ids"]
    table = tokenize_corpus(table_of(["the film was really good"] * 2), tiny_tokenizer, 6, "encoder")
    assert table["input_ids"][:] == [[CLS, *tokens[:4], SEP], [CLS, tokens[4], SEP]] * 2
    assert table.features["input_ids"].feature.dtype == "int32"


def test_a_tokenizer_without_the_special_tokens_is_refused(tiny_tokenizer: Any) -> None:
    with pytest.raises(ModelError, match="has no end-of-text token"):
        tokenize_corpus(table_of(["a film"]), tiny_tokenizer, 8, "decoder")


def pieces_table(lengths: list[int]) -> Any:
    import datasets

    features = datasets.Features({"input_ids": datasets.List(datasets.Value("int32"))})
    return datasets.Dataset.from_dict({"input_ids": [[i + 1] * n for i, n in enumerate(lengths)]}, features=features)


def test_sequences_give_back_the_pieces_also_over_several_chunks() -> None:
    import datasets

    lengths = np.random.default_rng(2).integers(1, 9, size=60).tolist()
    whole = pieces_table(lengths)
    parts = [datasets.Dataset(whole.data.slice(at, 20)) for at in (0, 20, 40)]
    for table in (whole, datasets.concatenate_datasets(parts)):
        packed = PackedSequences(table, 8, "decoder")
        found = [piece.tolist() for row in range(len(packed)) for piece in packed.pieces_of(row)]
        assert sorted(found) == sorted([i + 1] * n for i, n in enumerate(lengths))
        assert packed.num_tokens == sum(lengths)
        assert packed.fill == sum(lengths) / (8 * len(packed))
        assert packed.target_counts().tolist() == [0, *(length - 1 for length in lengths)]
    framed = PackedSequences(pieces_table([2, 5]), 8, "encoder")
    assert framed.target_counts().tolist() == [0, 0, 3], "neither the first nor the last of a piece is predicted"


@pytest.mark.parametrize("framing", ["encoder", "decoder"])
def test_parts_of_a_piece_hold_what_it_held(framing: Literal["encoder", "decoder"]) -> None:
    import datasets

    lengths = [60] * 9
    features = datasets.Features({"input_ids": datasets.List(datasets.Value("int32"))})
    rows = [[CLS, *range(100 * i, 100 * i + length - 2), SEP] for i, length in enumerate(lengths, start=1)]
    table = datasets.Dataset.from_dict({"input_ids": rows}, features=features)
    whole, packed = PackedSequences(table, 100, framing), PackedSequences(table, 100, framing, may_cut=True)
    assert whole.fill == 0.6 and packed.fill > 0.9 and len(packed) == 6
    parts = [piece.tolist() for row in range(len(packed)) for piece in packed.pieces_of(row)]
    assert packed.num_tokens == sum(map(len, parts)) > sum(lengths)
    assert all(sum(map(len, packed.pieces_of(row))) <= 100 for row in range(len(packed)))
    assert (packed.target_counts() == whole.target_counts()).all()
    if framing == "encoder":
        assert all(part[0] == CLS and part[-1] == SEP and len(part) > 2 for part in parts)
        assert sorted(t for part in parts for t in part[1:-1]) == sorted(t for row in rows for t in row[1:-1])
    else:
        pairs = sorted(pair for part in parts for pair in itertools.pairwise(part))
        assert pairs == sorted(pair for row in rows for pair in itertools.pairwise(row)), "each predicted once"


def test_no_pieces_at_all() -> None:
    with pytest.raises(DataError, match="holds no text"):
        PackedSequences(pieces_table([]), 8, "decoder")


def test_pieces_are_kept_by_their_special_tokens(tiny_tokenizer: Any) -> None:
    """Two tokenizers with equal files but other end tokens."""
    table = table_of(["the film was good"])
    ends = []
    for end in ("[SEP]", "[MASK]"):
        tokenizer = copy.deepcopy(tiny_tokenizer)
        tokenizer.eos_token = tokenizer.bos_token = end
        ends.append(tokenize_corpus(table, tokenizer, 8, "decoder")["input_ids"][0][-1])
    assert ends == [tiny_tokenizer.sep_token_id, tiny_tokenizer.mask_token_id]


def test_tokens_per_byte_counts_what_is_predicted(tiny_tokenizer: Any) -> None:
    texts = ["the film was good", "a plot", "é"]
    corpus = Corpus(table_of(texts), table_of(texts), sum(len(text.encode()) for text in texts))
    train, held_out = pack_corpus(corpus, tiny_tokenizer, 8, "encoder")
    assert train.num_tokens == (4 + 2) + (2 + 2) + (1 + 2)
    assert held_out is not None
    assert held_out.tokens_per_byte == (4 + 2 + 1) / (17 + 6 + 2)
    assert pack_corpus(corpus._replace(validation=None), tiny_tokenizer, 8, "encoder")[1] is None
