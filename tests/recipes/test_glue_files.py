"""The public GLUE files, as they are distributed, load with settings alone. They are no part of the project."""

from typing import Any

import pytest

from hfscale.data import load_splits
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
