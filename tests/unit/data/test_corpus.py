"""Documents of text files, tables and the Hub, split once, and read once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hfscale.data import corpus, sources
from hfscale.data.corpus import Corpus, load_corpus
from hfscale.errors import DataError, SettingsError
from hfscale.schemas import CorpusSettings
from tests.support.rows import write

POEM = "first line\nsecond line\n\n\nthird line\n   \nfourth line"


def load(path: Path | str, **changed: Any) -> Corpus:
    return load_corpus(CorpusSettings(train=str(path), **changed))


def documents(path: Path | str, **changed: Any) -> list[tuple[str, str]]:
    """(where without its folder, text) of all documents."""
    table = load(path, validation_fraction=0.0, **changed).train
    return [(str(row["where"]).rsplit("/", 1)[-1], row["text"]) for row in table]  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ["poem.txt", "poem.txt.gz"])
@pytest.mark.parametrize(
    "until, expected",
    [
        (None, [(1, POEM)]),
        ("file", [(1, POEM)]),
        ("line", [(1, "first line"), (2, "second line"), (5, "third line"), (7, "fourth line")]),
        ("blank_line", [(1, "first line\nsecond line"), (5, "third line"), (7, "fourth line")]),
    ],
)
def test_documents_of_a_text_file(tmp_path: Path, name: str, until: Any, expected: list[tuple[int, str]]) -> None:
    path = write(tmp_path / name, POEM)
    assert documents(path, documents=until) == [(f"{name} line {line}", text) for line, text in expected]


def test_windows_line_ends_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "dos.txt", "\ufefffirst\r\nsecond\r\n\r\nthird\r\n")
    assert [text for _, text in documents(path, documents="line")] == ["first", "second", "third"]
    assert [text for _, text in documents(path, documents="blank_line")] == ["first\r\nsecond", "third"]


def test_a_folder_with_subfolders_and_other_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("b.txt", "a/one.txt", "a/deeper/two.txt.gz", ".hidden/not.txt", "a/.not.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, f"text of {name}")
    write(tmp_path / "picture.png", b"\x89PNG")
    assert [text for _, text in documents(tmp_path)] == [
        "text of a/deeper/two.txt.gz",
        "text of a/one.txt",
        "text of b.txt",
    ]
    assert "left out 1 files" in capsys.readouterr().err


def test_json_lines_with_another_text_column(tmp_path: Path) -> None:
    rows = [{"content": "one", "id": 1}, {"content": "two\n\nlines", "id": 2}]
    path = write(tmp_path / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert documents(path, text="content") == [("rows.jsonl line 1", "one"), ("rows.jsonl line 2", "two\n\nlines")]
    write(tmp_path / "notes.txt", "plain text has no columns")
    assert [text for _, text in documents(tmp_path, text="content")] == [
        "plain text has no columns",
        "one",
        "two\n\nlines",
    ]


def test_max_documents(tmp_path: Path) -> None:
    path = write(tmp_path / "lines.txt", "one\ntwo\nthree\nfour\n")
    assert [text for _, text in documents(path, documents="line", max_documents=3)] == ["one", "two", "three"]


def test_copies_of_a_document_fall_on_the_same_side(tmp_path: Path) -> None:
    lines = [f"text number {number % 40}" for number in range(200)]
    path = write(tmp_path / "lines.txt", "\n".join(lines))
    train, validation, num_bytes = load(path, documents="line", validation_fraction=0.3)
    assert validation is not None
    assert not set(train["text"]) & set(validation["text"])
    assert sorted([*train["text"], *validation["text"]]) == sorted(lines)
    assert 0.1 < len(validation) / 200 < 0.5
    assert num_bytes == sum(len(text) for text in validation["text"])
    more = write(tmp_path / "more.txt", "\n".join(["a new one", *lines]))
    again = load(more, documents="line", validation_fraction=0.3).validation
    assert again is not None
    assert set(validation["text"]) <= set(again["text"]), "a new document moves no old one"
    other = load(path, documents="line", validation_fraction=0.3, split_seed=1).validation
    assert other is not None and set(other["text"]) != set(validation["text"])


def test_by_default_no_more_text_is_held_out_than_says_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "lines.txt", "\n".join(f"text {number}" for number in range(1000)))
    tenth = load(path, documents="line").validation
    assert tenth is not None and 60 < len(tenth) < 140
    monkeypatch.setattr(corpus, "_ENOUGH", 20 * len("text 123"))
    few = load(path, documents="line").validation
    assert few is not None and 5 < len(few) < 40


def test_one_document_at_least_is_held_out_and_one_stays(tmp_path: Path) -> None:
    lines = write(tmp_path / "few.txt", "\n".join(f"text {n}" for n in range(300)))
    for fraction, expected in ((1e-6, 1), (1 - 1e-6, 299)):
        train, validation, _ = load(lines, documents="line", validation_fraction=fraction)
        assert validation is not None and (len(train), len(validation)) == (300 - expected, expected)
    copies = write(tmp_path / "copies.txt", "one text\n" * 300)
    with pytest.raises(DataError, match=r"300 documents are all equal, .* give --data\.validation,"):
        load(copies, documents="line")


def test_of_a_hundred_documents_a_tenth_is_held_out_exactly(tmp_path: Path) -> None:
    lines = write(tmp_path / "lines.txt", "\n".join(f"text {n}" for n in range(100)))
    for seed in range(5):
        train, validation, _ = load(lines, documents="line", split_seed=seed)
        assert validation is not None and (len(train), len(validation)) == (90, 10)


def test_of_few_documents_the_ends_are_held_out(tmp_path: Path) -> None:
    """By whole documents it could be the large one that is held out, and the small one left to learn from."""
    large = "".join(f"line {number}\n" for number in range(1000))
    write(tmp_path / "a.txt", large)
    write(tmp_path / "b.txt", "a small one\nof two lines\n")
    write(tmp_path / "c.txt", "x")
    train, validation, _ = load(tmp_path)
    assert validation is not None and len(train) == 3 and len(validation) == 2
    assert train["text"][0] + validation["text"][0] == large.strip()
    assert 0.85 < len(train["text"][0]) / len(large) < 0.95
    assert train["text"][2] == "x", "too short for two parts"
    with pytest.raises(SettingsError, match=r"--data\.split_seed has no effect on 3 documents"):
        load(tmp_path, split_seed=1)


def test_files_without_text_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.txt", "some text to learn from\n" * 9)
    write(tmp_path / "b.txt", " \n")
    load(tmp_path)
    assert f"left out 1 of the 2 files of {tmp_path}: they hold no text" in "".join(capsys.readouterr())


def test_training_text_that_is_validation_text_too_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a.txt", "one\ntwo\nthree\ntwo")
    load(tmp_path / "a.txt", documents="line", validation=str(write(tmp_path / "b.txt", "two\nfour")))
    assert "2 of 4 training documents also stand in the validation text" in "".join(capsys.readouterr())


def test_a_single_document_is_cut_near_its_end(tmp_path: Path) -> None:
    text = "".join(f"line number {number} of a böok\n" for number in range(100)).strip()
    train, validation, num_bytes = load(write(tmp_path / "book.txt", text))
    assert validation is not None
    first, last = train["text"][0], validation["text"][0]
    assert first + last == text and first.endswith("\n")
    assert 0.08 < len(last) / len(text) < 0.13
    assert num_bytes == len(last.encode())
    assert load(tmp_path / "book.txt", validation_fraction=0.0).validation is None
    halves = load(tmp_path / "book.txt", validation_fraction=0.5)
    assert halves.validation is not None and len(halves.validation["text"][0]) > len(text) * 0.49
    bare = write(tmp_path / "bare.txt", "no line end in this text at all")
    assert load(bare).train["text"][0] == bare.read_text()[:27]


def test_validation_text_of_its_own(tmp_path: Path) -> None:
    train, other = write(tmp_path / "a.txt", "to learn from"), write(tmp_path / "b.txt", "to measure with é")
    found = load(train, validation=str(other))
    assert found.train["text"][:] == ["to learn from"]
    assert found.validation is not None and found.validation["text"][:] == ["to measure with é"]
    assert found.validation_bytes == 18


def test_a_corpus_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "lines.txt", "\n".join(f"text number {number}" for number in range(50)))
    before = load(path, documents="line")
    again = load(path, documents="line")
    assert again.train._fingerprint == before.train._fingerprint

    def never(*_: Any) -> Iterator[Any]:
        raise AssertionError("read a second time")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(corpus, "_text_documents", never)
        assert load(path, documents="line").train["text"][:] == before.train["text"][:]
    write(path, "another text\nof two lines\n")
    assert sorted(text for _, text in documents(path, documents="line")) == ["another text", "of two lines"]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[int], list[Any]]]:
    """(numbers of the rows taken, calls) of a data set of 10,000 rows that stands for one of the Hub."""
    import datasets

    taken: list[int] = []
    calls: list[Any] = []

    def rows() -> Iterator[dict[str, str]]:
        for number in range(10_000):
            taken.append(number)
            yield {"text": f"document {number}"}

    def load_dataset(*words: Any, **options: Any) -> Any:
        calls.append((words, options))
        return datasets.IterableDataset.from_generator(rows)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(sources, "hub_revision", lambda hub_id: f"revision of {hub_id}")
    sources.hub_table.cache_clear()
    yield taken, calls
    sources.hub_table.cache_clear()


def test_only_the_first_documents_of_a_hub_data_set_are_streamed(hub: tuple[list[int], list[Any]]) -> None:
    taken, calls = hub
    found = load("someone/streamed", max_documents=200, validation_fraction=0.2)
    assert found.validation is not None
    texts = [*found.train["text"], *found.validation["text"]]
    assert sorted(texts) == sorted(f"document {number}" for number in range(200))
    assert all(options["streaming"] is True for _, options in calls)
    assert all(words[0] == "someone/streamed" for words, _ in calls)
    assert max(taken) == 199, "the rest is not downloaded"
    taken.clear()
    load("someone/streamed", max_documents=200, validation_fraction=0.2)
    assert len(taken) <= corpus.COLUMNS_FROM, "the second time only the names of the columns are looked up"


def test_a_hub_data_set_without_the_column(hub: tuple[list[int], list[Any]]) -> None:
    with pytest.raises(DataError, match=r"has no column content \(--data.text\)"):
        load("someone/columns", max_documents=10, text="content")


BAD: dict[str, tuple[str, str | bytes, dict[str, Any], list[str]]] = {
    "empty file": ("a.txt", "", {}, ["a.txt holds no text"]),
    "blank lines only": ("a.txt", "\n  \n\t\n", {}, ["a.txt holds no text"]),
    "blank lines only, by line": ("a.txt", "\n  \n\t\n", {"documents": "line"}, ["a.txt holds no text"]),
    "binary": ("a.txt", b"good line\nbad\0line\n", {}, ["a.txt line 2", "NUL"]),
    "not UTF-8": ("a.txt", b"good line\ncaf\xe9\n", {}, ["a.txt line 2", "byte 4", "--data.encoding"]),
    "unknown encoding": ("a.txt", "text", {"encoding": "utf-9"}, ["--data.encoding utf-9"]),
    "corrupt gzip": ("a.txt.gz", b"", {}, ["a.txt.gz", "corrupt gzip file"]),
    "missing column": ("a.jsonl", '{"body": "x"}\n', {}, ["a.jsonl", "no column text", "--data.text", "body"]),
    "row without text": ("a.jsonl", '{"text": "x"}\n{"text": " "}\n', {}, ["a.jsonl line 2", "no text", "bad_rows"]),
    "empty jsonl": ("a.jsonl", "\n", {}, ["a.jsonl", "empty"]),
    "unknown kind": ("a.pdf", "%PDF", {}, ["a.pdf", "unknown kind"]),
    "too short to cut": ("a.txt", "x", {}, ["a.txt line 1", "too short", "--data.validation"]),
}


@pytest.mark.parametrize("case", list(BAD))
def test_data_that_can_not_be_read(tmp_path: Path, case: str) -> None:
    name, content, changed, parts = BAD[case]
    path = tmp_path / name
    if case == "corrupt gzip":
        whole = write(path, "some text " * 100).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    else:
        write(path, content)
    with pytest.raises(DataError) as caught:
        load(path, **changed)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_a_document_too_long_to_hold_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "_LONGEST", 30)
    path = write(tmp_path / "long.txt", "short\n\n" + "a longer line\n" * 5)
    with pytest.raises(DataError, match=r"long.txt line 1: a document of more .*--data.documents line or blank_line"):
        load(path)
    assert len(documents(path, documents="line")) == 6
    rows = write(tmp_path / "long.jsonl", '{"text": "short"}\n{"text": "' + "a" * 31 + '"}\n')
    with pytest.raises(DataError, match=r"long.jsonl line 2: a document of more"):
        load(rows)


@pytest.mark.parametrize(
    "name, changed, named",
    [
        ("a.jsonl", {"documents": "line"}, "--data.documents has no effect on"),
        ("a.txt", {"text": "content"}, "--data.text has no effect on"),
        ("a.txt", {"delimiter": ";"}, "--data.delimiter has no effect on"),
        ("a.txt", {"subset": "en"}, "--data.subset has no effect on"),
        ("builtin:docstrings", {"encoding": "latin-1"}, "--data.encoding has no effect on"),
    ],
)
def test_settings_without_effect(tmp_path: Path, name: str, changed: dict[str, Any], named: str) -> None:
    path = name if name.startswith("builtin:") else write(tmp_path / name, '{"text": "x"}\n')
    with pytest.raises(SettingsError, match=named):
        load(path, **changed)
