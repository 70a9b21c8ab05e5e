"""Tagging schemes: what is converted, what is left, which labels belong together."""

from __future__ import annotations

from typing import Any

import pytest

from hfscale.data.readers import Row
from hfscale.data.tags import as_entities, closed, entities, is_plain, scheme_of, standard_tags, tags_of, words_of

CONVERTED = {
    "IOB2 stays": ("B-A I-A O B-A B-A", "B-A I-A O B-A B-A"),
    "IOB1": ("I-A I-A O I-A B-A I-A I-C", "B-A I-A O B-A B-A I-A B-C"),
    "BIOES stays": ("B-A I-A E-A O S-A S-A", "B-A I-A E-A O S-A S-A"),
    "BILOU": ("B-A I-A L-A O U-A", "B-A I-A E-A O S-A"),
    "without types": ("I I O I B", "B I O B B"),
    "a type with a dash": ("I-A-1 I-A-2", "B-A-1 B-A-2"),
}


@pytest.mark.parametrize("case", CONVERTED)
def test_conversion_keeps_the_entities(case: str) -> None:
    given, expected = (tags.split() for tags in CONVERTED[case])
    assert standard_tags(given) == expected
    if "L-A" not in given:
        assert entities(given) == entities(expected)


def test_entities_are_those_of_the_sentence() -> None:
    assert entities(["B-A", "I-A", "O", "S-B", "B-A", "E-A"]) == [("A", 0, 2), ("B", 3, 4), ("A", 4, 6)]


def test_a_scheme_is_complete() -> None:
    assert closed({"O", "B-LOC"}) == {"O", "B-LOC", "I-LOC"}
    assert closed({"I-LOC"}) == {"O", "B-LOC", "I-LOC"}
    assert closed({"O", "U-LOC"}) == {"O", "B-LOC", "I-LOC", "E-LOC", "S-LOC"}
    assert closed({"B", "I", "O"}) == {"B", "I", "O"}
    assert closed({"NN", "VB"}) == {"NN", "VB"}
    assert [scheme_of(names) for names in ({"O", "B-A", "I-A"}, {"O", "S-A"}, {"NN", "O"})] == [
        "IOB2",
        "BIOES",
        "plain",
    ]


def test_plain_tags_are_entities_of_one_word() -> None:
    assert is_plain({"NN", "O"}) and not is_plain({"B-NN", "O"})
    assert as_entities([["NN", "O"]], plain=True) == [["S-NN", "O"]]
    assert as_entities([["B-A", "O"]], plain=False) == [["B-A", "O"]]


@pytest.mark.parametrize(
    "value, problem",
    [
        (["a", "b"], None),
        (None, "no words"),
        ([], "no words"),
        ("a b", "holds text, not a list of words"),
        (["a", " "], "word 2 in column words is ' '"),
        (["a", 3], "word 2 in column words is 3"),
        (["\ud800"], "word 1"),
    ],
)
def test_words(value: Any, problem: str | None) -> None:
    words, found = words_of(Row("x line 1", {"words": value}), "words")
    assert (words, found) == (value, None) if problem is None else (words == [] and problem in str(found))


@pytest.mark.parametrize(
    "value, problem",
    [
        (["O", "B-A"], None),
        ([0, 1], None),
        (["O"], "2 words, but 1 tags in column tags"),
        (["O", None], "word 2 'b' has no tag"),
        ("O O", "holds text, not tags"),
        (None, "no tags"),
    ],
)
def test_tags(value: Any, problem: str | None) -> None:
    tags, found = tags_of(Row("x line 1", {"tags": value}), "tags", ["a", "b"])
    assert tags == [str(tag) for tag in value] if problem is None else problem in str(found)
