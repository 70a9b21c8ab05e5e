"""The built-in data set is held to its standard: small, no copies across the split, neither easy nor hopeless."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from hfscale.data.sources import find_source

FILES = {split: find_source(f"builtin:tickets#{split}").files[0] for split in ("train", "test")}
ROWS = {
    split: [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for split, file in FILES.items()
}


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


def test_it_is_small() -> None:
    assert 1000 <= sum(map(len, ROWS.values())) <= 1500
    folder: Path = FILES["train"].parent
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 300_000


def test_every_row_is_a_text_and_a_label() -> None:
    for row in (row for rows in ROWS.values() for row in rows):
        assert list(row) == ["text", "label"]
        assert row["text"].strip() == row["text"] != ""


def test_both_splits_hold_the_same_twelve_intents() -> None:
    counts = {split: Counter(row["label"] for row in rows) for split, rows in ROWS.items()}
    assert len(counts["train"]) == 12 and set(counts["train"]) == set(counts["test"])
    assert min(counts["train"].values()) >= 20 and min(counts["test"].values()) >= 5


def test_no_text_occurs_twice() -> None:
    texts = Counter(words(row["text"]) for rows in ROWS.values() for row in rows)
    assert [text for text, count in texts.items() if count > 1] == []


def test_no_test_text_is_nearly_a_training_text() -> None:
    train = [words(row["text"]) for row in ROWS["train"]]
    for row in ROWS["test"]:
        test = words(row["text"])
        nearest = max(len(test & other) / len(test | other) for other in train)
        assert nearest <= 0.34, row["text"]


def test_simple_methods_get_part_of_the_way() -> None:
    pytest.importorskip("sklearn")
    from hfscale.data import Labels
    from hfscale.evaluation import text_baselines
    from tests.support.rows import table_of

    tables = {
        split: table_of([row["text"] for row in rows], [row["label"] for row in rows]) for split, rows in ROWS.items()
    }
    labels = Labels.of(tables["train"], "single_label_classification")
    train, test = (table.add_column("labels", labels.encode(table)) for table in tables.values())
    scores = text_baselines("single_label_classification", train, test)
    assert 0.60 <= scores["tfidf"]["accuracy"] <= 0.85
    assert scores["majority"]["accuracy"] < 0.2
