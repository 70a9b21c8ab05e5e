"""Checked tables of text and label: what is refused by file and line, and what the cache keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hfscale.data import load_examples, read_texts
from hfscale.data.examples import refuse_missing_columns
from hfscale.errors import DataError
from tests.support.rows import settings_for, write

SINGLE, SEVERAL, NUMBER = "single_label_classification", "multi_label_classification", "regression"


def load(path: Path, task: Any = SINGLE, **changed: Any) -> Any:
    return load_examples(str(path), settings_for(path, **changed), task)


def refusal(path: Path, task: Any = SINGLE, **changed: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(path, task, **changed)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{path.parent}/", "")


def test_a_table_has_text_label_and_place(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,text,label\n1,hello, a \n2,NA,null\n3,nan,nan\n")
    assert load(path).to_dict() == {
        "text": ["hello", "NA", "nan"],
        "where": [f"{path} line {number}" for number in (2, 3, 4)],
        "label": ["a", "null", "nan"],
    }


def test_other_columns_and_pairs(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "premise,hypothesis,gold\na,b,yes\n")
    table = load(path, text=["premise", "hypothesis"], label="gold")
    assert (table["text"][0], table["text_pair"][0], table["label"][0]) == ("a", "b", "yes")


def test_text_alone_needs_no_label(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "hello\nbye\n")
    assert read_texts(str(path), settings_for(path), SINGLE) == [{"text": "hello"}, {"text": "bye"}]


@pytest.mark.parametrize(
    "row", ['{"text": NaN, "label": "a"}', '{"text": "x", "label": NaN}', '{"text": ["x"], "label": "a"}']
)
def test_what_is_missing_or_no_text_is_a_bad_row(tmp_path: Path, row: str) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "x", "label": "a"}\n' + row + "\n")
    with pytest.raises(DataError, match=r"a\.jsonl line 2: "):
        load(path)


def test_whole_numbers_name_the_same_class_however_written(tmp_path: Path) -> None:
    rows = '{"text": "x", "label": [1.0, 2]}\n{"text": "y", "label": [1, null]}\n'
    path = write(tmp_path / "a.jsonl", rows)
    with pytest.raises(DataError, match="line 2: an empty label"):
        load(path, "multi_label_classification")
    good = load(path, "multi_label_classification", bad_rows="skip")
    assert good["label"][:] == [["1", "2"]]


def test_settings_that_do_not_change_what_is_read_share_the_cache(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\nx,a\ny,b\n")
    assert load(path)._fingerprint == load(path, max_length=9, split_seed=3)._fingerprint


@pytest.mark.parametrize(
    "value, label", [("a", "a"), (3, "3"), (3.0, "3"), (0, "0"), (False, "False"), (" x ", "x"), ("NA", "NA")]
)
def test_class_labels_are_words(tmp_path: Path, value: Any, label: str) -> None:
    path = write(tmp_path / "a.jsonl", json.dumps({"text": "t", "label": value}))
    assert load(path)["label"][0] == label


@pytest.mark.parametrize(
    "flag, changed, near",
    [
        ("--data.text", {"text": "txet"}, "; did you mean text?"),
        ("--data.label", {"label": "labels"}, "; did you mean label?"),
        ("--data.label", {"label": "zzz"}, ";"),
        ("--data.text", {"text": ["text", "second"]}, ";"),
    ],
)
def test_a_missing_column_is_told_which_there_are(
    tmp_path: Path, flag: str, changed: dict[str, Any], near: str
) -> None:
    path = write(tmp_path / "a.csv", "text,label,id\nhello,a,1\n")
    name = next(iter(changed.values()))
    name = name if isinstance(name, str) else name[1]
    assert refusal(path, **changed) == f"a.csv has no column {name} ({flag}){near} its columns are text, label, id"


@pytest.mark.parametrize(
    "content, expected",
    [
        ("text,label\nhello,a\n,b\n", "a.csv line 3: no text in column text"),
        ("text,label\nhello,a\n  ,b\n", "a.csv line 3: no text in column text"),
        ("text,label\nhello,\n", "a.csv line 2: no label in column label"),
        ('text,label\n"two\nlines",a\nbye, \n', "a.csv line 4: no label in column label"),
    ],
)
def test_a_row_without_text_or_label_is_named_by_line(tmp_path: Path, content: str, expected: str) -> None:
    path = write(tmp_path / "a.csv", content)
    assert refusal(path) == f"{expected}; mend it, or leave such rows out with --data.bad_rows skip"


def test_all_bad_rows_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\nhello,a\n,b\nbye,\n,c\n")
    assert "a.csv line 3: no text in column text (and 2 more such rows);" in refusal(path)


def test_a_later_json_row_without_label_is_named_by_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "t", "label": "a"}\n{"text": "u"}\n{"text": "v", "label": null}\n')
    assert "a.jsonl line 2: no label in column label (and 1 more such rows)" in refusal(path)


def test_bad_rows_can_be_left_out_aloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.csv", "text,label\nhello,a\n,b\nbye,\nend,c\n")
    table = load(path, bad_rows="skip")
    assert list(table["text"]) == ["hello", "end"]
    printed = "".join(capsys.readouterr())
    assert f"left out 2 of 4 rows of {path}" in printed and "line 3: no text in column text" in printed


def test_a_first_json_row_without_label_can_be_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "t"}\n{"text": "u", "label": "a"}\n')
    assert list(load(path, bad_rows="skip")["text"]) == ["u"]


def test_nothing_left_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\n,a\n,b\n")
    assert "every row is unusable; the first: " in refusal(path, bad_rows="skip")


def test_a_text_that_no_encoding_can_hold_is_named_by_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "fine", "label": "a"}\n{"text": "cut \\ud83d", "label": "b"}\n')
    assert "a.jsonl line 2" in refusal(path)


def test_a_refusal_comes_again_the_second_time(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\nhello,a\nragged\n")
    assert refusal(path) == refusal(path)
    assert "a.csv line 3" in refusal(path)


def test_a_list_is_not_one_label(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "t", "label": ["a"]}')
    message = refusal(path)
    assert "a.jsonl line 1: column label holds a list" in message and f"--task {SEVERAL}" in message


def test_several_labels_as_a_list(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "t", "label": ["a", " b"]}\n{"text": "u", "label": []}\n')
    assert list(load(path, SEVERAL)["label"]) == [["a", "b"], []]


def test_several_labels_in_one_cell(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\nt,a; b\nu,\nv,c\n")
    assert list(load(path, SEVERAL, label_separator=";")["label"]) == [["a", "b"], [], ["c"]]
    assert "a.csv line 2" in refusal(path, SEVERAL) and "--data.label_separator" in refusal(path, SEVERAL)


@pytest.mark.parametrize(
    "cells, labels",
    [(("1", "0"), ["x"]), (("true", "1.0"), ["x", "y"]), (("False", "0.0"), []), (("TRUE", "false"), ["x"])],
)
def test_several_labels_in_columns(tmp_path: Path, cells: tuple[str, str], labels: list[str]) -> None:
    path = write(tmp_path / "a.csv", "text,x,y\nt,{},{}\n".format(*cells))
    assert load(path, SEVERAL, label=["x", "y"])["label"][0] == labels


@pytest.mark.parametrize("cell", ["2", "yes", "", "0.5"])
def test_a_label_column_holds_0_or_1(tmp_path: Path, cell: str) -> None:
    path = write(tmp_path / "a.csv", f"text,x,y\nt,1,0\nu,1,{cell}\n")
    assert refusal(path, SEVERAL, label=["x", "y"]).startswith(f"a.csv line 3: column y holds {cell!r}, not 0 or 1")


def test_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\nt,-1.5\nu, 2e3 \nv,0\n")
    assert list(load(path, NUMBER)["label"]) == [-1.5, 2000.0, 0.0]


@pytest.mark.parametrize(
    "cell, problem",
    [("", "no label"), ("abc", "'abc', not a number"), ("nan", "not a finite number"), ("inf", "not a finite number")],
)
def test_what_is_not_a_number_is_named_by_line(tmp_path: Path, cell: str, problem: str) -> None:
    message = refusal(write(tmp_path / "a.csv", f"text,label\nt,1\nu,{cell}\n"), NUMBER)
    assert "a.csv line 3" in message and problem in message


def test_an_unchanged_file_is_read_from_the_cache(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\nhello,a\n")
    first = load(path)
    write(path, "text,label\nhello,a\n")
    again = load(path)
    assert again._fingerprint == first._fingerprint
    assert again.cache_files == first.cache_files != []


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\nhello,a\n")
    first = load(path)
    write(path, "text,label\nhellO,a\n")
    assert list(load(path)["text"]) == ["hellO"]
    assert load(path)._fingerprint != first._fingerprint


def test_settings_that_change_the_rows_are_not_mixed_up(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'text,label,other\n"hello",1,2\n')
    assert list(load(path)["label"]) == ["1"]
    assert list(load(path, label="other")["label"]) == ["2"]
    assert list(load(path, NUMBER)["label"]) == [1.0]
    assert list(load(path, quoting=False)["text"]) == ['"hello"']
    assert list(load(path, SEVERAL, label_separator=";")["label"]) == [["1"]]


def test_the_second_file_of_a_folder_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "text,label\nhello,a\n")
    write(tmp_path / "b.csv", "text,label\nhello,\n")
    with pytest.raises(DataError, match=r"b\.csv line 2: no label"):
        load(tmp_path)


@pytest.mark.parametrize(
    "task, label, more",
    [(SINGLE, "\ud800", {}), (SEVERAL, ["a", "\ud800"], {}), (SEVERAL, "a;\ud800", {"label_separator": ";"})],
)
def test_a_label_that_no_encoding_can_hold_is_named_by_line(
    tmp_path: Path, task: Any, label: Any, more: dict[str, Any]
) -> None:
    path = write(tmp_path / "a.jsonl", json.dumps({"text": "t", "label": label}))
    assert refusal(path, task, **more).startswith("a.jsonl line 1: column label holds half of a character")


def test_a_split_without_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    empty = datasets.Dataset.from_dict({"text": [], "label": []})
    monkeypatch.setattr("hfscale.data.sources.hub_table", lambda *_, **__: empty)
    with pytest.raises(DataError, match=r"^someone/data#test holds no examples$"):
        load_examples("someone/data#test", settings_for("x.csv"), SINGLE)


def test_no_rows_lack_no_column() -> None:
    refuse_missing_columns([], [("--data.text", "text")])
