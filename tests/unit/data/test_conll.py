"""Column files: sentences with the line they begin on, and what is refused by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hfscale.batch import NO_LABEL
from hfscale.data import Labels, load_examples, load_splits, tokenize
from hfscale.data.conll import is_conll, read_conll
from hfscale.errors import DataError, SettingsError
from tests.support.rows import settings_for, write

TEXT = "-DOCSTART- X O\n\nThe DT B-NP\ncat NN I-NP\n\n \nsat VB B-VP\n-DOCSTART- X O\nup RP B-PRT"
COLUMNS = {"columns": ["tokens", "pos", "chunk"], "label": "chunk"}
TASK: Any = "token_classification"


@pytest.mark.parametrize("name", ["a.txt", "a.conll", "a.iob.gz", "a.tsv", "a"])
def test_sentences(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, TEXT.replace(" ", "\t") if ".tsv" in name else TEXT)
    assert is_conll(path)
    table = load_examples(str(path), settings_for(path, **COLUMNS), TASK)
    assert list(table["words"]) == [["The", "cat"], ["sat"], ["up"]]
    assert list(table["label"]) == [["B-NP", "I-NP"], ["B-VP"], ["B-PRT"]]
    assert [where.rpartition(" line ")[2] for where in table["where"]] == ["3", "7", "9"]


def test_the_first_column_is_words_and_the_last_tags(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", TEXT)
    table = load_examples(str(path), settings_for(path), TASK)
    assert table[0]["words"] == ["The", "cat"] and table[0]["label"] == ["B-NP", "I-NP"]


def test_blanks_that_are_no_separators_stay_in_the_word(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "10\u00a0000 CD\nNew York\tNN\n")
    rows = list(read_conll(path, settings_for(path)))
    assert rows[0].values == {"tokens": ["10\u00a0000", "New York"], "tags": ["CD", "NN"]}


def test_other_files_are_no_column_files() -> None:
    assert not any(is_conll(Path(name)) for name in ("a.json", "a.jsonl.gz", "a.parquet", "a.csv"))


def test_a_line_with_too_few_columns_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "The DT B-NP\ncat I-NP\n")
    with pytest.raises(DataError, match=r"a\.txt line 2: 2 columns, not the 3 of tokens, pos, chunk"):
        load_examples(str(path), settings_for(path, **COLUMNS), TASK)


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", TEXT)
    with pytest.raises(
        DataError, match=r"has no column chunk \(--data.label\).*its columns are tokens, column 2, tags"
    ):
        load_examples(str(path), settings_for(path, label="chunk"), TASK)


def test_an_empty_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "\n\n")
    with pytest.raises(DataError, match="empty"):
        load_examples(str(path), settings_for(path), TASK)


def test_lists_of_another_length_are_bad_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"tokens": ["a"], "tags": ["O"]}\n{"tokens": ["a", "b"], "tags": ["O"]}\n')
    with pytest.raises(DataError, match=r"a\.jsonl line 2: 2 words, but 1 tags"):
        load_examples(str(path), settings_for(path), TASK)
    assert len(load_examples(str(path), settings_for(path, bad_rows="skip"), TASK)) == 1


def test_a_tag_unseen_in_training_is_named_by_line_and_word(tmp_path: Path) -> None:
    train = write(tmp_path / "a.txt", "a B-NP\nb O\n\nc O\n")
    test = write(tmp_path / "b.txt", "x O\n\na I-NP\nb B-NPP\n")
    labels = Labels.of(load_examples(str(train), settings_for(train), TASK), TASK)
    assert labels.names == ("B-NP", "I-NP", "O")
    with pytest.raises(DataError, match=r"b\.txt line 3, word 2 'b': tag 'B-NPP' does not occur.*did you mean B-NP"):
        labels.encode(load_examples(str(test), settings_for(test), TASK))


def test_conversions_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.txt", "a I-NP\nb I-NP\n\nc O\n")
    table = load_examples(str(path), settings_for(path), TASK)
    labels = Labels.of(table, TASK)
    assert labels.encode(table) == [[0, 1], [2]]
    assert "1 of 2 sentences were converted to IOB2" in capsys.readouterr().out


def test_quoting_has_no_effect_on_column_files(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "a\tO\n\nb\tB-X\n" * 20)
    with pytest.raises(SettingsError, match=r"--data\.quoting has no effect"):
        load_splits(settings_for(path, quoting=False), TASK)


def test_copies_of_a_sentence_fall_on_the_same_side(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "".join(f"w{n % 30} B-X\n\n" for n in range(120)))
    splits = load_splits(settings_for(path, validation_fraction=0.3), TASK)
    assert splits.validation
    train, held = ({tuple(words) for words in part["words"]} for part in (splits.train, splits.validation))
    assert train and held and not train & held


def test_the_same_file_under_other_tags_is_tokenized_anew(tmp_path: Path, tiny_tokenizer: Any) -> None:
    held_out = write(tmp_path / "dev.txt", "film B-X\ngood O\n")
    table = load_examples(str(held_out), settings_for(held_out), TASK)
    for names in (("B-X", "I-X", "O"), ("B-A", "B-X", "I-A", "I-X", "O")):
        labels = Labels(TASK, names)
        (targets,) = tokenize(table, tiny_tokenizer, 16, labels)["token_labels"]
        assert [names[target] for target in targets if target != NO_LABEL] == ["B-X", "O"]


COMMENTED = {
    "CoNLL-U": (
        "# newdoc\n# sent_id = 1\n# text = The # cat\nThe\tDET\tO\n#\tSYM\tO\ncat\tNOUN\tO\n\n"
        "# sent_id = 2\n# one\ttab\n#\tSYM\tO\nsat\tVERB\tO\n\n# text\nup\tADP\tO\n",
        [["The", "#", "cat"], ["#", "sat"], ["up"]],
        ["4", "10", "14"],
    ),
    "as many blanks as columns": ("# id = 1\nThe\tD\tDET\tO\n", [["The"]], ["2"]),
    "blanks": ("# id = 1\n# NN O\ncat NN O\n\n# id = 2\n# NN O\n", [["#", "cat"], ["#"]], ["2", "6"]),
    "a word # first of all": ("# O\ncat O\n", [["#", "cat"]], ["1"]),
    "nothing but words #": ("# O\n\n# O\n", [["#"], ["#"]], ["1", "3"]),
}


@pytest.mark.parametrize("case", COMMENTED)
def test_comments_before_a_sentence_are_no_words(tmp_path: Path, case: str) -> None:
    content, words, lines = COMMENTED[case]
    path = write(tmp_path / "a.conll", content)
    table = load_examples(str(path), settings_for(path), TASK)
    assert list(table["words"]) == words
    assert [where.rpartition(" line ")[2] for where in table["where"]] == lines


def test_a_comment_within_a_sentence_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conll", "The O\n# sent_id = 1\n")
    with pytest.raises(DataError, match=r"a\.conll line 2: 4 columns, not the 2"):
        load_examples(str(path), settings_for(path), TASK)


def labels_of(tmp_path: Path, sentences: list[list[Any]]) -> Labels:
    rows = [{"tokens": [f"w{n}" for n in range(len(tags))], "tags": tags} for tags in sentences]
    path = write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return Labels.of(load_examples(str(path), settings_for(path), TASK), TASK)


@pytest.mark.parametrize("tags", [[0, 1, 2, 0], ["-1", "3"], [1.0, 2.0]])
def test_tags_that_are_numbers_are_refused(tmp_path: Path, tags: list[Any]) -> None:
    with pytest.raises(DataError, match=r"the tags are numbers \(.*\); give their names") as caught:
        labels_of(tmp_path, [tags])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("odd", ["PER", "0", "o", "NN", "X-PER"])
def test_an_odd_tag_among_marks_of_entities_is_named(tmp_path: Path, odd: str) -> None:
    with pytest.raises(DataError, match=rf"a\.jsonl line 2, word 2 'w1': tag '{odd}' is neither O nor .*'B-PER'"):
        labels_of(tmp_path, [["B-PER", "I-PER", "O"], ["O", odd]])


def test_tags_of_one_kind_stay(tmp_path: Path) -> None:
    assert labels_of(tmp_path, [["NN", "VB", "2"]]).names == ("2", "NN", "VB")
    assert labels_of(tmp_path, [["B", "I", "O", "B-X"]]).names == ("B", "B-X", "I", "I-X", "O")


def test_a_tag_that_no_encoding_can_hold_is_a_bad_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"tokens": ["a"], "tags": ["O"]}\n{"tokens": ["a"], "tags": ["\\ud800"]}\n')
    with pytest.raises(DataError, match=r"a\.jsonl line 2: the tag of word 1 'a' holds half of a character"):
        load_examples(str(path), settings_for(path), TASK)
    assert len(load_examples(str(path), settings_for(path, bad_rows="skip"), TASK)) == 1
