"""Files of every kind: what is read, and where a broken one is said to be broken."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hfscale.errors import DataError
from tests.support.rows import read, write

CONTENTS = {
    "rows.csv": "text,label\nhello,a\n",
    "rows.tsv": "text\tlabel\nhello\ta\n",
    "rows.jsonl": '{"text": "hello", "label": "a"}\n',
    "rows.json": '[{"text": "hello", "label": "a"}]',
    "wrapped.json": '{"version": 1, "data": [{"text": "hello", "label": "a"}]}',
}


def refusal(path: Path, **changed: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(path, **changed)
    message = str(caught.value)
    assert str(path) in message or "--data." in message
    assert "\n" not in message
    return message.replace(f"{path.parent}/", "")


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("name", CONTENTS)
def test_every_kind_is_read_plain_and_compressed(tmp_path: Path, name: str, ending: str) -> None:
    path = write(tmp_path / f"{name}{ending}", CONTENTS[name])
    ((where, values),) = read(path)
    place = {".json": "item 1", ".jsonl": "line 1"}.get(Path(name).suffix, "line 2")
    assert where == f"{name}{ending} {place}"
    assert values == {"text": "hello", "label": "a"}


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_text_file_has_a_text_per_line(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"a.txt{ending}", 'one\r\n"two", three\nlast')
    assert read(path) == [
        (f"a.txt{ending} line 1", {"text": "one"}),
        (f"a.txt{ending} line 2", {"text": '"two", three'}),
        (f"a.txt{ending} line 3", {"text": "last"}),
    ]


def test_parquet_keeps_types(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", None], "label": [[1], [2, 3]]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == [
        ("a.parquet row 1", {"text": "a", "label": [1]}),
        ("a.parquet row 2", {"text": None, "label": [2, 3]}),
    ]


def test_parquet_rows_are_numbered_over_batches(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [str(n) for n in range(2500)]}), tmp_path / "a.parquet")
    rows = read(tmp_path / "a.parquet")
    assert [values["text"] for _, values in rows] == [str(n) for n in range(2500)]
    assert rows[-1][0] == "a.parquet row 2500"


@pytest.mark.parametrize("word", ["NA", "null", "nan", "None", "N/A", "TRUE", "007", "1e5", ""])
def test_words_that_look_like_something_else_stay_words(tmp_path: Path, word: str) -> None:
    for path in (
        write(tmp_path / "a.csv", f"text,label\n{word},{word}\n"),
        write(tmp_path / "a.tsv", f"text\tlabel\n{word}\t{word}\n"),
        write(tmp_path / "a.jsonl", json.dumps({"text": word, "label": word})),
    ):
        assert read(path)[0][1] == {"text": word, "label": word}


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl", "rows.json"])
def test_a_byte_order_mark_is_dropped(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, "\ufeff" + CONTENTS[name])
    assert read(path)[0][1] == {"text": "hello", "label": "a"}


def test_a_byte_order_mark_is_dropped_where_there_is_no_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "\ufeffhello,a\n")
    assert read(path, columns=["text", "label"]) == [("a.csv line 1", {"text": "hello", "label": "a"})]


def test_quoted_line_breaks_keep_the_numbers_of_the_lines_right(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'text,label\n"one\ntwo\n\nfour",a\n\nnext,b\n"x ""y"" z, w",c\n')
    assert read(path) == [
        ("a.csv line 2", {"text": "one\ntwo\n\nfour", "label": "a"}),
        ("a.csv line 7", {"text": "next", "label": "b"}),
        ("a.csv line 8", {"text": 'x "y" z, w', "label": "c"}),
    ]


def test_windows_line_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"text,label\r\nhello,a\r\nbye,b\r\n")
    assert [values for _, values in read(path)] == [{"text": "hello", "label": "a"}, {"text": "bye", "label": "b"}]


def test_columns_name_the_fields_of_a_file_without_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "0\thello\n1\tbye\n")
    assert read(path, columns=["label", "text"])[0] == ("a.tsv line 1", {"label": "0", "text": "hello"})


def test_without_quoting_a_quote_is_a_character(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", 'text\tlabel\n"hello\ta\nbye"\t"b"\n')
    texts = [(values["text"], values["label"]) for _, values in read(path, quoting=False)]
    assert texts == [('"hello', "a"), ('bye"', '"b"')]


@pytest.mark.parametrize("delimiter", [";", "|", "\t"])
def test_another_delimiter(tmp_path: Path, delimiter: str) -> None:
    path = write(tmp_path / "a.csv", f"text{delimiter}label\na, b{delimiter}c\n")
    assert read(path, delimiter=delimiter)[0][1] == {"text": "a, b", "label": "c"}


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf_16", "utf-8-sig"])
@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.json"])
def test_another_encoding(tmp_path: Path, name: str, encoding: str) -> None:
    path = write(tmp_path / name, CONTENTS[name].replace("hello", "grüße").encode(encoding))
    assert read(path, encoding=encoding)[0][1] == {"text": "grüße", "label": "a"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_only_a_line_end_ends_a_line(tmp_path: Path, encoding: str) -> None:
    text = "a\u2028b\x0bc\x85d\x1ee"
    path = write(tmp_path / "a.jsonl", json.dumps({"text": text}, ensure_ascii=False).encode(encoding))
    assert read(path, encoding=encoding) == [("a.jsonl line 1", {"text": text})]
    path = write(tmp_path / "a.txt", f"{text}\nnext\n".encode(encoding))
    assert [values["text"] for _, values in read(path, encoding=encoding)] == [text, "next"]


def test_bytes_of_another_encoding_are_named_by_line(tmp_path: Path) -> None:
    for name in ("a.csv", "a.txt", "a.csv.gz"):
        path = write(tmp_path / name, "text,label\nhello,a\ngrüße,b\n".encode("latin-1"))
        message = refusal(path)
        assert f"{name} line 3" in message and "byte 3 is not utf-8" in message and "--data.encoding" in message


def test_bytes_that_are_not_utf16_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "hello\n".encode("utf-16") + b"\x00\xd8\x00\xd8\n\x00")
    assert "utf-16" in refusal(path, encoding="utf-16")


@pytest.mark.parametrize("encoding", ["klingon", "utf-16-klingon"])
def test_an_unknown_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "a.csv", CONTENTS["rows.csv"])
    assert f"--data.encoding {encoding} is not an encoding" in refusal(path, encoding=encoding)


@pytest.mark.parametrize(
    "name, content",
    [("a.csv", ""), ("a.jsonl", ""), ("a.json", ""), ("a.txt", ""), ("a.csv.gz", ""), ("a.json", "[]")],
)
def test_an_empty_file_is_refused(tmp_path: Path, name: str, content: str) -> None:
    assert f"{name}: the file is empty" in refusal(write(tmp_path / name, content))


@pytest.mark.parametrize("content", ["text,label\n", "text,label", "\n\n", "text,label\n\n\n"])
def test_a_header_alone_is_refused(tmp_path: Path, content: str) -> None:
    assert "a.csv: the file is empty, or has a header and no rows" in refusal(write(tmp_path / "a.csv", content))


@pytest.mark.parametrize(
    "name, content, parts",
    [
        (
            "a.csv",
            "text,label\nhello,a\nx,y,z\n",
            ("line 3", "3 fields, but the columns are text, label", "--data.delimiter"),
        ),
        ("a.csv", "text,label\nhello\n", ("line 2", "1 fields, but the columns are text, label")),
        ("a.csv", 'text,label\n"a\nb",c\n"open,d\nlast,e\n', ("line 4", "--data.quoting false")),
        ("a.csv", 'text,label\nx,y\n"a"b,c\n', ("line 3", "--data.quoting false")),
        ("a.jsonl", '{"text": "a"}\n\n{"text": \n', ("line 3", "not valid JSON")),
        ("a.jsonl", '{"text": "a"}\n["b"]\n', ("line 2", "must be an object", '["b"]')),
        ("a.jsonl", "null\n", ("line 1", "must be an object", "null")),
        ("a.json", '[{"text": "a"},\n{"text": }]', ("line 2", "not valid JSON")),
        ("a.json", '{"text": "a"}\n{"text": "b"}\n', ("line 2", "is it .jsonl?")),
        ("a.json", '["a"]', ("must be a list of objects",)),
        ("a.json", '{"train": [], "test": []}', ("must be a list of objects",)),
        ("a.json", "3", ("must be a list of objects",)),
        ("a.parquet", b"PAR1 this is not one PAR1", ("not a readable parquet file",)),
        ("a.parquet", b"", ("not a readable parquet file",)),
        ("a.xlsx", b"PK", ("unknown kind of file", ".csv", ".parquet")),
        ("a", "text", ("unknown kind of file",)),
    ],
)
def test_a_broken_file_is_named_with_its_line(
    tmp_path: Path, name: str, content: str | bytes, parts: tuple[str, ...]
) -> None:
    message = refusal(write(tmp_path / name, content))
    for part in (name, *parts):
        assert part in message


def test_a_quote_in_a_file_without_quoting_gets_no_advice_about_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\rhello,a\r")
    assert "--data.quoting false" not in refusal(path, quoting=False)


@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_a_gzip_file_that_ends_early_is_refused(tmp_path: Path, kept: float) -> None:
    whole = gzip.compress(b"text,label\n" + b"hello,a\n" * 1000 + bytes(range(48, 58)) + b",b\n")
    (tmp_path / "a.csv.gz").write_bytes(whole[: int(len(whole) * kept)])
    assert "a.csv.gz: corrupt gzip file" in refusal(tmp_path / "a.csv.gz")


def test_a_gzip_file_with_a_flipped_byte_is_refused(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(b"text,label\nhello,a\n"))
    content[-6] ^= 0xFF  # its checksum
    (tmp_path / "a.csv.gz").write_bytes(content)
    assert "a.csv.gz: corrupt gzip file" in refusal(tmp_path / "a.csv.gz")


def test_a_plain_file_called_gz_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_text("text,label\nhello,a\n")
    assert "a.csv.gz: corrupt gzip file" in refusal(tmp_path / "a.csv.gz")


def test_a_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    assert "can't read a.csv: No such file" in refusal(tmp_path / "a.csv")
