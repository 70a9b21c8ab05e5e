"""Public files, as they are distributed, load with settings alone. They are no part of the project."""

from typing import Any

import pytest

from hfscale.data import Labels, load_splits
from hfscale.schemas import DataSettings
from tests.support.commands import ROOT

DATA = ROOT.parent / "shared" / "data"

CASES: dict[str, tuple[dict[str, Any], int, int, int]] = {
    "sst2": ({"text": "sentence"}, 67_349, 872, 2),
    "cola": ({"text": "sentence", "columns": ["source", "label", "star", "sentence"]}, 8_551, 1_043, 2),
    "mrpc": ({"text": ["#1 String", "#2 String"], "label": "Quality"}, 3_668, 408, 2),
}


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the GLUE files in ../shared/data")
@pytest.mark.parametrize("name", list(CASES))
def test_loads(name: str) -> None:
    settings, num_train, num_dev, num_labels = CASES[name]
    files = {"train": str(DATA / name / "train.tsv"), "validation": str(DATA / name / "dev.tsv")}
    splits = load_splits(DataSettings(**files, quoting=False, **settings), "single_label_classification")
    assert splits.validation
    assert (len(splits.train), len(splits.validation)) == (num_train, num_dev)
    assert len(set(splits.train["label"])) == num_labels
    assert all(text.strip() for text in splits.train["text"])


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the CoNLL-2000 files in ../shared/data")
def test_conll2000_loads() -> None:
    files = {name: str(DATA / "conll2000" / f"{name}.txt.gz") for name in ("train", "test")}
    settings = DataSettings(**files, columns=["tokens", "pos", "chunk"], label="chunk", validation_fraction=0.0)
    splits = load_splits(settings, "token_classification")
    assert splits.test
    assert (len(splits.train), len(splits.test)) == (8_936, 2_012)
    labels = Labels.of(splits.train, "token_classification")
    assert len(labels.names) == 23 and len(labels.encode(splits.test)) == 2_012


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the XQuAD file in ../shared/data")
def test_xquad_loads() -> None:
    path = str(DATA / "xquad" / "xquad.en.json")
    splits = load_splits(DataSettings(train=path, validation_fraction=0.0), "question_answering")
    assert len(splits.train) == 1_190
    assert all(len(answers["text"]) == 1 for answers in splits.train["label"])
