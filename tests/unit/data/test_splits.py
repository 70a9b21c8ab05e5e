"""Held-out rows, the built-in data set's own test split, and settings that nothing would heed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hfscale.data import load_splits
from hfscale.errors import DataError, SettingsError
from tests.support.rows import settings_for, write


def csv_of(path: Path, texts: list[str]) -> Path:
    return write(path, "text,label\n" + "".join(f"{text},{'ab'[n % 2]}\n" for n, text in enumerate(texts)))


def split(path: Path, **changed: Any) -> Any:
    return load_splits(settings_for(path, **changed), "single_label_classification")


TEXTS = [f"text number {number}" for number in range(300)]


def test_a_tenth_is_held_out_and_every_row_is_kept_once(tmp_path: Path) -> None:
    splits = split(csv_of(tmp_path / "a.csv", TEXTS))
    train, held = list(splits.train["text"]), list(splits.validation["text"])
    assert sorted(train + held) == sorted(TEXTS)
    assert 15 <= len(held) <= 45
    assert splits.test is None and splits.held_out is splits.validation


@pytest.mark.parametrize("fraction", [0.2, 0.5])
def test_the_fraction_is_about_what_was_asked_for(tmp_path: Path, fraction: float) -> None:
    held = split(csv_of(tmp_path / "a.csv", TEXTS), validation_fraction=fraction).validation
    assert abs(len(held) / len(TEXTS) - fraction) < 0.08


def test_equal_texts_fall_on_the_same_side(tmp_path: Path) -> None:
    splits = split(csv_of(tmp_path / "a.csv", [f"text {n % 40}" for n in range(200)]), validation_fraction=0.3)
    assert not set(splits.train["text"]) & set(splits.validation["text"])


def test_new_rows_move_no_old_one(tmp_path: Path) -> None:
    before = split(csv_of(tmp_path / "a.csv", TEXTS))
    after = split(csv_of(tmp_path / "a.csv", ["a new first row", *TEXTS, *(f"new {n}" for n in range(50))]))
    assert set(before.validation["text"]) == set(after.validation["text"]) & set(TEXTS)


def test_another_seed_holds_out_others(tmp_path: Path) -> None:
    path = csv_of(tmp_path / "a.csv", TEXTS)
    first, again, other = split(path), split(path), split(path, split_seed=1)
    assert list(first.validation["text"]) == list(again.validation["text"])
    assert set(first.validation["text"]) != set(other.validation["text"])


def test_nothing_is_held_out_where_none_is_asked_for(tmp_path: Path) -> None:
    splits = split(csv_of(tmp_path / "a.csv", TEXTS[:5]), validation_fraction=0)
    assert len(splits.train) == 5 and splits.validation is None and splits.held_out is None


def test_too_few_rows_to_hold_any_out_are_refused(tmp_path: Path) -> None:
    path = csv_of(tmp_path / "a.csv", TEXTS[:1])
    with pytest.raises(DataError, match=r"10% of 1 rows leaves an empty part; give --data\.validation or"):
        split(path)


def test_given_sources_are_taken_whole(tmp_path: Path) -> None:
    paths = [csv_of(tmp_path / f"{name}.csv", [f"{name} {n}" for n in range(4)]) for name in ("train", "dev", "test")]
    splits = split(paths[0], validation=str(paths[1]), test=str(paths[2]))
    assert [len(part) for part in splits] == [4, 4, 4]
    assert list(splits.held_out["text"]) == [f"test {n}" for n in range(4)]


def test_the_sizes_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = csv_of(tmp_path / "a.csv", TEXTS[:5])
    split(path, validation_fraction=0)
    assert f"{path}: 5 training examples" in capsys.readouterr().out


def test_a_builtin_brings_its_own_test_split() -> None:
    splits = split(Path("builtin:tickets"))
    assert len(splits.test) == 255 and len(splits.train) + len(splits.validation) == 1023
    assert splits.held_out is splits.test


def test_a_builtin_named_with_its_split_brings_no_other() -> None:
    assert split(Path("builtin:tickets#test"), validation_fraction=0.3).test is None


@pytest.mark.parametrize(
    "name, setting",
    [
        ("columns", {"columns": ["text", "label"]}),
        ("delimiter", {"delimiter": ";"}),
        ("quoting", {"quoting": False}),
        ("subset", {"subset": "cola"}),
    ],
)
def test_settings_without_effect_on_jsonl_are_refused(tmp_path: Path, name: str, setting: dict[str, Any]) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "t", "label": "a"}\n')
    with pytest.raises(SettingsError) as caught:
        split(path, **setting)
    assert str(caught.value) == f"--data.{name} has no effect on {path}; leave it out"


def test_an_encoding_without_effect_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["t"], "label": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(SettingsError, match=r"--data\.encoding has no effect"):
        split(tmp_path / "a.parquet", encoding="latin-1")


def test_a_setting_that_one_of_the_sources_heeds_is_taken(tmp_path: Path) -> None:
    train = write(tmp_path / "a.jsonl", '{"text": "t", "label": "a"}\n')
    test = write(tmp_path / "b.csv", "text;label\nu;b\n")
    assert list(split(train, test=str(test), delimiter=";", validation_fraction=0).test["label"]) == ["b"]


def test_map_leaves_out_what_is_not_there(tmp_path: Path) -> None:
    splits = split(csv_of(tmp_path / "a.csv", TEXTS[:5]), validation_fraction=0)
    mapped = splits.map(lambda table: table.remove_columns("where"))
    assert mapped.train.column_names == ["text", "label"] and mapped.validation is None


def test_a_class_is_never_held_out_whole(tmp_path: Path) -> None:
    rows = "".join(f"text {number},{'common' if number % 3 else f'rare{number}'}\n" for number in range(120))
    path = write(tmp_path / "a.csv", "text,label\n" + rows)
    splits = load_splits(settings_for(path, validation_fraction=0.3), "single_label_classification")
    assert splits.validation
    assert set(splits.validation["label"]) <= set(splits.train["label"])
    assert len(splits.train) + len(splits.validation) == 120


def test_a_column_that_can_be_no_label_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,id\n" + "".join(f"text {n},{n}\n" for n in range(60)))
    with pytest.raises(DataError, match=r"60 labels in 60 rows.*--data\.label id"):
        load_splits(settings_for(path, label="id"), "single_label_classification")
