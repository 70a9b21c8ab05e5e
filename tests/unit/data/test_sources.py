"""What the name of a data set means."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hfscale.data.sources import BUILTINS, _named, find_source
from hfscale.errors import DataError
from tests.support.rows import settings_for, write


def refusal(name: str) -> str:
    with pytest.raises(DataError) as caught:
        find_source(name)
    return str(caught.value)


def texts(name: str) -> list[str]:
    return [row.values["text"] for row in find_source(name).rows(settings_for(name))]


def test_a_folder_holds_all_its_data_files_in_order(tmp_path: Path) -> None:
    write(tmp_path / "b.csv", "text\nsecond\n")
    write(tmp_path / "a.jsonl.gz", '{"text": "first"}\n')
    pq.write_table(pa.table({"text": ["third"]}), tmp_path / "c.parquet")
    write(tmp_path / "README.md", "nothing")
    assert texts(str(tmp_path)) == ["first", "second", "third"]


def test_a_folder_in_a_folder_is_no_data_file(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "text\nfirst\n")
    (tmp_path / "b.parquet").mkdir()
    assert find_source(str(tmp_path)).files == (tmp_path / "a.csv",)


def test_a_glob_takes_what_matches(tmp_path: Path) -> None:
    for name, text in (("part-1.csv", "one"), ("part-2.csv", "two"), ("other.csv", "no")):
        write(tmp_path / name, f"text\n{text}\n")
    assert texts(f"{tmp_path}/part-*.csv") == ["one", "two"]


def test_a_file_whose_name_looks_like_a_glob(tmp_path: Path) -> None:
    write(tmp_path / "a[1].csv", "text\nhello\n")
    assert texts(f"{tmp_path}/a[1].csv") == ["hello"]


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.csv", "text\nhello\n")
    assert texts("~/a.csv") == ["hello"]


def test_a_missing_file_is_told_the_near_one(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "text\nhello\n")
    message = refusal(f"{tmp_path}/trian.csv")
    assert message == f"no such file or folder: {tmp_path}/trian.csv; did you mean {tmp_path}/train.csv?"


@pytest.mark.parametrize(
    "name", ["mails.csv", "./mails", "/nowhere/mails", "a/b/c", "~/nowhere-at-all", "mails.jsonl.gz"]
)
def test_a_local_name_is_not_looked_up_on_the_hub(name: str) -> None:
    assert refusal(name).startswith(f"no such file or folder: {name}")


@pytest.mark.parametrize(
    "name, hub_id, split",
    [
        ("imdb", "imdb", "train"),
        ("nyu-mll/glue#validation", "nyu-mll/glue", "validation"),
        ("a.b/c.d", "a.b/c.d", "train"),
    ],
)
def test_other_names_are_hub_ids(name: str, hub_id: str, split: str) -> None:
    source = find_source(name)
    assert (source.hub_id, source.split, source.files) == (hub_id, split, ())


def test_a_hub_data_set_that_cannot_be_had_is_said_so() -> None:
    source = find_source("no-such-owner-here/no-such-data")
    with pytest.raises(DataError) as caught:
        list(source.rows(settings_for("no-such-owner-here/no-such-data")))
    message = str(caught.value)
    assert "no-such-owner-here/no-such-data" in message and "\n" not in message


def test_an_empty_folder_and_an_empty_glob_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "notes.md", "x")
    assert f"folder {tmp_path} holds no data file" in refusal(str(tmp_path))
    assert f"no file matches {tmp_path}/*.csv" in refusal(f"{tmp_path}/*.csv")


def test_builtins() -> None:
    for name, splits in BUILTINS.items():
        for split in splits:
            files = find_source(f"builtin:{name}#{split}", corpus=name == "docstrings").files
            assert files and all(file.is_file() for file in files)
    assert find_source("builtin:tickets").files == find_source("builtin:tickets#train").files


def test_docstrings_have_no_labels() -> None:
    assert "has no labels; builtin:tickets has" in refusal("builtin:docstrings")


@pytest.mark.parametrize(
    "name, expected",
    [
        ("builtin:letters", "no built-in data set letters; there are tickets, docstrings"),
        ("builtin:tickets#dev", "builtin:tickets has no split dev; it has train, test"),
    ],
)
def test_unknown_builtins_are_told_what_there_is(name: str, expected: str) -> None:
    assert refusal(name) == expected


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text\nhello\n")
    settings = settings_for(path)
    first = find_source(str(path)).fingerprint(settings)
    write(path, "text\nhello\n")
    assert find_source(str(path)).fingerprint(settings) == first
    write(path, "text\nhellO\n")
    assert find_source(str(path)).fingerprint(settings) != first


def test_the_fingerprint_of_a_folder_follows_its_files(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "text\nhello\n")
    settings = settings_for(tmp_path)
    first = find_source(str(tmp_path)).fingerprint(settings)
    write(tmp_path / "b.csv", "text\nbye\n")
    assert find_source(str(tmp_path)).fingerprint(settings) != first


def test_a_folder_of_several_splits_is_not_one_data_set(tmp_path: Path) -> None:
    for name in ("train.csv", "test.csv"):
        write(tmp_path / name, "text,label\nx,a\n")
    with pytest.raises(DataError, match=r"several splits .*--data\.test"):
        find_source(str(tmp_path))
    (tmp_path / "test.csv").unlink()
    write(tmp_path / "train.more.csv", "text,label\nx,a\n")
    assert len(find_source(str(tmp_path)).files) == 2


def test_hidden_labels_of_the_hub_are_missing() -> None:
    assert _named([1, -1, None], ["a", "b"]) == ["b", None, None]
    assert _named(-1, ["a", "b"]) is None
