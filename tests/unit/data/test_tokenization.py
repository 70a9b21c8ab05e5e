"""Texts as token ids, cut, counted and cached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
from transformers import AutoTokenizer, BertTokenizer

from hfscale.data import Labels, tokenize
from tests.support.rows import table_of

LABELS = Labels("single_label_classification", ("a", "b"))
TEXTS = ["the film was good", "bad", "a great plot and a great cast"]


def table(texts: list[str] = TEXTS) -> Any:
    return table_of(texts, ["a", "b", "a"][: len(texts)])


def test_ids_are_the_tokenizers_own(tiny_tokenizer: Any) -> None:
    encoded = tokenize(table(), tiny_tokenizer, 64, LABELS)
    for row in encoded:
        assert row["input_ids"] == tiny_tokenizer(row["text"])["input_ids"]
        assert row["length"] == len(row["input_ids"])
    assert encoded["labels"][:] == [0, 1, 0]


def test_pairs_are_two_segments(tiny_tokenizer: Any) -> None:
    tokenizer = BertTokenizer(vocab=tiny_tokenizer.get_vocab())
    pairs = table(["the film", "bad"]).add_column("text_pair", ["was good", "cast"])
    row = tokenize(pairs, tokenizer, 64, LABELS)[0]
    expected = tokenizer("the film", "was good")
    assert row["input_ids"] == expected["input_ids"]
    assert row["token_type_ids"] == expected["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1]


def test_long_texts_are_cut_aloud(tiny_tokenizer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    encoded = tokenize(table(), tiny_tokenizer, 5, LABELS)
    assert encoded["length"][:] == [5, 3, 5]
    assert encoded["input_ids"][0][-1] == tiny_tokenizer.sep_token_id
    assert "of 3 examples were cut at 5 tokens" in capsys.readouterr().out


def test_nothing_is_said_where_nothing_is_cut(tiny_tokenizer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    tokenize(table(), tiny_tokenizer, 64, LABELS)
    assert "were cut" not in capsys.readouterr().out


def test_several_labels_and_numbers(tiny_tokenizer: Any) -> None:
    several = tokenize(
        table_of(["a", "the"], [["x"], []]), tiny_tokenizer, 64, Labels("multi_label_classification", ("x", "y"))
    )
    assert several["labels"][:] == [[1.0, 0.0], [0.0, 0.0]]
    numbers = tokenize(table_of(["a", "the"], [0.5, 2.0]), tiny_tokenizer, 64, Labels("regression", ("score",)))
    assert numbers["labels"][:] == [0.5, 2.0]


@pytest.fixture
def on_disk(tmp_path: Path) -> Any:
    """A table whose maps are cached, as those of `load_examples` are."""
    table().to_parquet(tmp_path / "a.parquet")
    return datasets.Dataset.from_parquet(str(tmp_path / "a.parquet"), cache_dir=str(tmp_path / "cache"))


def ids_file(encoded: Any) -> str:
    return encoded.remove_columns("labels").cache_files[0]["filename"]


def test_the_same_texts_are_tokenized_once(on_disk: Any, tiny_model: Path) -> None:
    files = [ids_file(tokenize(on_disk, AutoTokenizer.from_pretrained(tiny_model), 64, LABELS)) for _ in range(2)]
    assert files[0] == files[1]


def test_a_tokenizer_that_was_used_before_finds_the_same_cache(on_disk: Any, tiny_model: Path) -> None:
    fresh, used = (AutoTokenizer.from_pretrained(tiny_model) for _ in range(2))
    tokenize(table(["other text"]), used, 64, LABELS)
    assert ids_file(tokenize(on_disk, fresh, 64, LABELS)) == ids_file(tokenize(on_disk, used, 64, LABELS))


def test_another_length_or_vocabulary_is_another_cache(on_disk: Any, tiny_model: Path) -> None:
    bigger = AutoTokenizer.from_pretrained(tiny_model)
    bigger.add_tokens(["film"])
    files = {
        ids_file(tokenize(on_disk, AutoTokenizer.from_pretrained(tiny_model), 64, LABELS)),
        ids_file(tokenize(on_disk, AutoTokenizer.from_pretrained(tiny_model), 5, LABELS)),
        ids_file(tokenize(on_disk, bigger, 64, LABELS)),
    }
    assert len(files) == 3
