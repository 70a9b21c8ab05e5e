"""Pairs of texts from aligned files, columns and nested translations, and their tokens."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hfscale.data import EvalBatches, TrainBatches, load_text_pairs, tokenize_pairs
from hfscale.data.batching import epoch_order, longest_first
from hfscale.data.vocabulary import load_or_train_tokenizer
from hfscale.errors import DataError, ModelError
from hfscale.schemas import TextPairSettings, TokenizerSettings
from tests.support.chat import write_json
from tests.support.pairs import pairs, write_parallel
from tests.support.tiny import write_csv

ROWS = pairs(60)


def settings(train: Any, **changed: Any) -> TextPairSettings:
    return TextPairSettings(**{"train": str(train), "validation_fraction": 0.0} | changed)


def tokenizer_of(table: Any) -> Any:
    return load_or_train_tokenizer(TokenizerSettings(vocab_size=300), table, "seq2seq", 32)


def texts(table: Any) -> list[tuple[str, str]]:
    return list(zip(table["text"], table["text_pair"], strict=True))


def test_aligned_files_columns_and_translations_are_one_data_set(tmp_path: Path) -> None:
    expected = [(row["source"], row["target"]) for row in ROWS]
    parallel = write_parallel(tmp_path, ROWS)
    assert texts(load_text_pairs(settings(parallel)).train) == expected
    for ending in ("en", "fr"):
        with gzip.open(tmp_path / f"train.{ending}.gz", "wb") as file:
            file.write((tmp_path / f"train.{ending}").read_bytes())
    assert texts(load_text_pairs(settings(f"{parallel}.gz")).train) == expected
    assert texts(load_text_pairs(settings(write_csv(tmp_path / "rows.csv", ROWS))).train) == expected
    backwards = load_text_pairs(settings(parallel, source="fr", target="en")).train
    assert texts(backwards) == [(target, source) for source, target in expected]
    nested = write_json(tmp_path / "rows.json", [{"translation": {"en": a, "fr": b}} for a, b in expected])
    assert texts(load_text_pairs(settings(nested, source="en", target="fr")).train) == expected


def test_files_of_which_one_is_shorter_are_refused(tmp_path: Path) -> None:
    parallel = write_parallel(tmp_path, ROWS)
    (tmp_path / "train.fr").write_text("un\n")
    with pytest.raises(DataError, match=r"train\.fr ends before line 2, which .*train\.en has"):
        load_text_pairs(settings(parallel))
    (tmp_path / "train.fr").unlink()
    with pytest.raises(DataError, match=r"no such file: .*train\.fr, which .*\{en,fr\} stands for"):
        load_text_pairs(settings(parallel))


def test_a_blank_line_is_a_bad_row_with_its_number(tmp_path: Path) -> None:
    parallel = write_parallel(tmp_path, [*ROWS[:2], {"source": "one", "target": " "}, *ROWS[2:]])
    with pytest.raises(DataError, match=r"train\.en line 3: no text in column fr"):
        load_text_pairs(settings(parallel))
    assert len(load_text_pairs(settings(parallel, bad_rows="skip")).train) == len(ROWS)


def test_missing_columns_are_named_with_those_there_are(tmp_path: Path) -> None:
    rows = write_csv(tmp_path / "rows.csv", [{"english": "one", "french": "un"}] * 3)
    with pytest.raises(DataError, match="columns english, french; pairs need source and target, or translation"):
        load_text_pairs(settings(rows))


def test_the_trained_vocabulary_is_that_of_both_sides_and_ends_are_marked(tmp_path: Path) -> None:
    table = load_text_pairs(settings(write_parallel(tmp_path, ROWS))).train
    tokenizer = tokenizer_of(table)
    encoded = tokenize_pairs(table, tokenizer, settings("x"), is_training=True)
    for row in range(len(encoded)):
        for name, text in (("input_ids", "text"), ("target_ids", "text_pair")):
            ids = encoded[row][name]
            assert ids[-1] == tokenizer.eos_token_id and tokenizer.decode(ids[:-1]) == encoded[row][text]
    assert tokenizer.tokenize("quatre") != list("quatre") and tokenizer.tokenize("three") != list("three")


def test_long_texts_are_cut_and_long_targets_left_out_of_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*pairs(30, longest=2), {"source": "one " * 20, "target": "un"}, {"source": "one", "target": "un " * 30}]
    table = load_text_pairs(settings(write_parallel(tmp_path, rows))).train
    tokenizer, short = tokenizer_of(table), settings("x", max_length=12, max_target_length=16)
    capsys.readouterr()
    train = tokenize_pairs(table, tokenizer, short, is_training=True)
    said = capsys.readouterr()
    assert "1 of 32 training texts were cut at 12 tokens" in said.out
    assert "left out 1 of 32 training pairs, whose text to write is longer than 16 tokens" in said.err
    assert "train.en line 32" in said.err
    assert len(train) == 31 and max(train["length"]) == 12
    assert all(ids[-1] == tokenizer.eos_token_id for ids in train["input_ids"])
    held_out = tokenize_pairs(table, tokenizer, short, is_training=False)
    assert len(held_out) == 32 and max(held_out["target_length"]) == 16
    with pytest.raises(DataError, match=r"all 1 texts to write are longer than 16 tokens; raise --data.max_target"):
        tokenize_pairs(table.select([31]), tokenizer, short, is_training=True)


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    table = load_text_pairs(settings(write_parallel(tmp_path, ROWS))).train
    decoder = load_or_train_tokenizer(TokenizerSettings(vocab_size=300), table, "decoder", 32)
    with pytest.raises(ModelError, match="puts no end token behind a text"):
        tokenize_pairs(table, decoder, settings("x"), is_training=True)


def test_batches_are_of_similar_lengths_on_both_sides(tmp_path: Path) -> None:
    """Against batches in the order of the texts to read alone, and in no order."""
    generator = np.random.default_rng(0)
    read = generator.integers(4, 40, 4000)
    lengths = np.stack([read, np.maximum(3, read + generator.integers(-6, 7, 4000))], axis=-1)

    def padding(batches: list[np.ndarray]) -> float:
        filled = sum(lengths[rows].max(0).sum() * len(rows) for rows in batches)
        return 1 - lengths.sum() / filled

    both, one = epoch_order(lengths, 32, 0, 1), epoch_order(lengths[:, 0], 32, 0, 1)
    assert sorted(np.concatenate(both)) == list(range(4000))
    assert padding(both) < 0.5 * padding(one) < 0.2 * padding(np.split(np.arange(4000), 125))
    first = epoch_order(lengths, 32, 0, 0)[0]
    assert lengths[first].max(0).sum() == max(lengths[rows].max(0).sum() for rows in both)


def test_one_sided_lengths_keep_their_order() -> None:
    lengths = np.array([3, 5, 3, 9, 5])
    assert longest_first(lengths).tolist() == np.argsort(-lengths, kind="stable").tolist() == [3, 1, 4, 0, 2]


def test_batches_hold_both_sides_padded_each_to_its_own_width(tmp_path: Path) -> None:
    table = load_text_pairs(settings(write_parallel(tmp_path, ROWS))).train
    tokenizer = tokenizer_of(table)
    encoded = tokenize_pairs(table, tokenizer, settings("x"), is_training=True)
    shared: Any = {"pad_token_id": tokenizer.pad_token_id}
    batches = TrainBatches(encoded, global_batch_size=8, micro_batch_size=4, seed=0, **shared)
    seen = []
    for step in range(batches.steps_per_epoch):
        for batch in batches[step]:
            if not batch.num_examples:
                continue
            ids, labels = batch.inputs["input_ids"], batch.inputs["labels"]
            rows = [encoded[row] for row in batch.indices]
            assert ids.shape[1] == max(row["length"] for row in rows)
            assert labels.shape[1] == max(row["target_length"] for row in rows)
            assert batch.num_tokens == sum(row["length"] + row["target_length"] for row in rows)
            for row, wanted in zip(labels, rows, strict=True):
                assert row[row != -100].tolist() == wanted["target_ids"]
            seen += batch.indices
    assert sorted(seen) == list(range(len(encoded)))
    held = [row for batch in EvalBatches(encoded, batch_size=16, **shared) for row in batch.indices]
    assert sorted(held) == list(range(len(encoded)))


def test_one_column_for_both_sides_and_tables_in_braces_are_refused(tmp_path: Path) -> None:
    parallel = write_parallel(tmp_path, ROWS)
    with pytest.raises(DataError, match="are both fr; name both columns"):
        load_text_pairs(settings(parallel, source="fr"))
    for name in ("a", "b"):
        write_csv(tmp_path / f"{name}.csv", ROWS)
    with pytest.raises(DataError, match=r"a\.csv is a table; name one"):
        load_text_pairs(settings(tmp_path / "{a,b}.csv"))
