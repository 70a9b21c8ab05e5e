"""Questions: SQuAD's layout and flat rows are the same examples; tokens map back to the answers' exact text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hfscale.data import Labels, load_examples, load_splits, read_texts, tokenize
from hfscale.data.labels import SPAN, SPAN_OR_NONE
from hfscale.data.spans import OUTSIDE
from hfscale.errors import DataError
from tests.support.rows import settings_for, write

TASK: Any = "question_answering"
CONTEXT = "The caf\u00e9 \U0001f600 sold   2.5 \u20ac cakes, \u00dcber-good film; not a bad film."


def answer(text: str, context: str = CONTEXT) -> dict[str, Any]:
    return {"text": text, "answer_start": context.index(text)}


def squad(tmp_path: Path, *qas: dict[str, Any], context: str = CONTEXT, name: str = "a.json") -> Path:
    entries = [{"id": f"q{number}", "question": "what film", **entry} for number, entry in enumerate(qas)]
    article = {"title": "t", "paragraphs": [{"context": context, "qas": entries}]}
    return write(tmp_path / name, json.dumps({"version": "1.1", "data": [article]}))


def test_squad_and_flat_rows_are_the_same(tmp_path: Path) -> None:
    nested = squad(tmp_path, {"answers": [answer("film"), answer("bad")]}, {"answers": [answer("2.5 \u20ac")]})
    flat = [
        {"id": "q0", "question": "what film", "context": CONTEXT, "answers": {
            "text": ["film", "bad"], "answer_start": [CONTEXT.index("film"), CONTEXT.index("bad")]}},
        {"id": "q1", "question": "what film", "context": CONTEXT, "answers": [answer("2.5 \u20ac")]},
    ]  # fmt: skip
    lines = write(tmp_path / "b.jsonl", "".join(json.dumps(row) + "\n" for row in flat))
    first, second = (load_examples(str(path), settings_for(path), TASK) for path in (nested, lines))
    assert first.remove_columns("where").to_dict() == second.remove_columns("where").to_dict()
    assert first[0]["where"].endswith("a.json item 1 paragraph 1 question q0")
    assert read_texts(str(nested), settings_for(nested), TASK)[1] == {
        "id": "q1", "text": "what film", "text_pair": CONTEXT,
    }  # fmt: skip


@pytest.mark.parametrize(
    "answers, problem",
    [
        ([{"text": "film", "answer_start": 3}], "the answer 'film' doesn't stand at character 3"),
        ([{"text": "film", "answer_start": -4}], "doesn't stand at character -4"),
        ([{"text": " ", "answer_start": 3}], "an empty answer"),
        ([{"text": "film"}], "no answers with `text` and `answer_start`"),
        ("film", "no answers with"),
        (None, "no answers with"),
    ],
)
def test_bad_answers_are_named(tmp_path: Path, answers: Any, problem: str) -> None:
    path = squad(tmp_path, {"answers": [answer("film")]}, {"answers": answers})
    with pytest.raises(DataError, match=r"a\.json item 1 paragraph 1 question q1: ") as error:
        load_examples(str(path), settings_for(path), TASK)
    assert problem in str(error.value)


def test_an_article_of_another_build(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", json.dumps({"data": [{"paragraphs": [{"qas": []}]}]}))
    with pytest.raises(DataError, match=r"a\.json item 1: not built as SQuAD's"):
        load_examples(str(path), settings_for(path), TASK)


def test_questions_without_an_answer(tmp_path: Path, tiny_tokenizer: Any) -> None:
    some = {"answers": [answer("film")]}
    path = squad(tmp_path, some, {"answers": [], "is_impossible": True, "plausible_answers": [answer("bad")]})
    table = load_examples(str(path), settings_for(path), TASK)
    labels = Labels.of(table, TASK)
    assert labels.names == SPAN_OR_NONE
    assert tokenize(table, tiny_tokenizer, 64, labels)["labels"][1] == [0, 0]
    path = squad(tmp_path, some, name="b.json")
    assert Labels.of(load_examples(str(path), settings_for(path), TASK), TASK).names == SPAN


@pytest.mark.parametrize("max_length, stride", [(64, None), (20, 8), (16, 2)])
def test_every_answers_tokens_map_back_to_its_text(
    tmp_path: Path, tiny_tokenizer: Any, max_length: int, stride: int | None
) -> None:
    texts = ["The", "caf\u00e9", "2.5 \u20ac", "cakes", "\u00dcber-good film", "not a bad", "film."]
    path = squad(tmp_path, *({"answers": [answer(text)]} for text in texts))
    table = load_examples(str(path), settings_for(path), TASK)
    encoded = tokenize(table, tiny_tokenizer, max_length, Labels(TASK, SPAN), stride)
    found: dict[int, set[str]] = {}
    covered: dict[int, set[int]] = {}
    for row in encoded:
        assert len(row["input_ids"]) == len(row["starts"]) == len(row["ends"]) == row["length"] <= max_length
        first, last = row["labels"]
        if row["starts"][first] == OUTSIDE:
            assert (first, last) == (row["none"], row["none"])
        else:
            found.setdefault(row["example"], set()).add(CONTEXT[row["starts"][first] : row["ends"][last]])
        for start, end in zip(row["starts"], row["ends"], strict=True):
            covered.setdefault(row["example"], set()).update(range(start, end) if start != OUTSIDE else ())
    assert found == {number: {text} for number, text in enumerate(texts)}
    letters = {place for place, character in enumerate(CONTEXT) if character.isalnum()}
    assert all(letters <= places for places in covered.values()), "a part of the context is in no window"
    assert (len(encoded) > len(table)) == (max_length < 64)


def test_a_question_that_is_too_long_is_named(tmp_path: Path, tiny_tokenizer: Any) -> None:
    path = squad(tmp_path, {"answers": [answer("film")]}, {"question": "film " * 30, "answers": [answer("film")]})
    table = load_examples(str(path), settings_for(path), TASK)
    with pytest.raises(DataError, match=r"question q1: the question has 30 tokens.*--data.max_length 40.*stride 13"):
        tokenize(table, tiny_tokenizer, 40, Labels(TASK, SPAN))


def test_no_context_is_on_both_sides(tmp_path: Path) -> None:
    rows = [{"question": f"q{n}", "context": f"c{n % 20}", "answers": [answer("c", f"c{n % 20}")]} for n in range(80)]
    path = write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    splits = load_splits(settings_for(path, validation_fraction=0.3), TASK)
    assert splits.validation
    assert not set(splits.train["text_pair"]) & set(splits.validation["text_pair"])


def test_another_stride_makes_other_windows(tmp_path: Path, tiny_tokenizer: Any) -> None:
    path = squad(tmp_path, {"answers": [answer("film")]})
    table = load_examples(str(path), settings_for(path), TASK)
    labels = Labels(TASK, SPAN)
    shared = {}
    for stride in (2, 8):
        first, second = tokenize(table, tiny_tokenizer, 20, labels, stride)["starts"][:2]
        shared[stride] = len(set(first) & set(second) - {OUTSIDE})
    assert shared == {2: 2, 8: 8}


def test_a_file_without_questions(tmp_path: Path) -> None:
    path = squad(tmp_path)
    for read in (load_examples, read_texts):
        with pytest.raises(DataError, match=r"a\.json holds no examples$"):
            read(str(path), settings_for(path), TASK)


def test_an_id_that_no_encoding_can_hold_is_a_bad_row(tmp_path: Path) -> None:
    path = squad(tmp_path, {"answers": [answer("film")]}, {"id": "\ud800", "answers": [answer("film")]})
    with pytest.raises(DataError, match=r"paragraph 1 question \\ud800: its id holds half of a character"):
        load_examples(str(path), settings_for(path), TASK)
    with pytest.raises(DataError, match="its id holds half of a character"):
        read_texts(str(path), settings_for(path), TASK)
    assert len(load_examples(str(path), settings_for(path, bad_rows="skip"), TASK)) == 1


def test_answers_in_no_window_are_counted(
    tmp_path: Path, tiny_tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    long = CONTEXT[: CONTEXT.index(" film.")]  # more tokens than windows share
    path = squad(tmp_path, {"answers": [answer(long)]}, {"answers": [answer("film")]}, {"answers": []})
    table = load_examples(str(path), settings_for(path), TASK)
    for _ in range(2):  # made, and taken from the cache
        windows = tokenize(table, tiny_tokenizer, 16, Labels(TASK, SPAN_OR_NONE), 2)
        assert capsys.readouterr().err.startswith("warning: 1 of 3 answers are not whole in any window")
    for row in windows:
        assert row["answerable"] == bool(row["label"]["text"])
        assert row["answered"] == (row["starts"][row["labels"][0]] != OUTSIDE)


def test_questions_that_a_model_must_get_wrong_are_counted(
    tmp_path: Path, tiny_tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = squad(tmp_path, {"answers": [answer("film")]}, {"answers": []}, {"answers": []})
    table = load_examples(str(path), settings_for(path), TASK)
    tokenize(table, tiny_tokenizer, 16, Labels(TASK, SPAN_OR_NONE), 2)
    assert not capsys.readouterr().err
    tokenize(table, tiny_tokenizer, 16, Labels(TASK, SPAN), 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert "2 of 3 questions have no answer" in line and "question q1" in line and "count as wrong" in line
