"""The card of a data set counts what is in its files, and `datasets` loads what it says."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from huggingface_hub import DatasetCard

from hfscale.errors import DataError
from hfscale.hub import dataset_card


def metadata(text: str) -> dict[str, Any]:
    read = DatasetCard(text)
    assert read.content.rstrip() == text.rstrip()
    return read.data.to_dict()


def write_rows(path: Path, number: int) -> None:
    rows = [{"text": f"message {n}", "label": ("no", "yes|no")[n % 2], "score": n or None} for n in range(number)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_folder_of_splits(tmp_path: Path) -> None:
    folder = tmp_path / "someone" / "mails"
    folder.mkdir(parents=True)
    write_rows(folder / "train.jsonl", 1200)
    write_rows(folder / "test.jsonl", 10)
    (folder / "notes.md").write_text("x")
    (folder / ".hidden").write_text("x")
    (folder / "README.md").write_text("an older card")
    text = dataset_card(folder, license="mit", language="en", repo_id="me/mails")
    assert "someone" not in text and ".hidden" not in text and "older" not in text
    assert "| `train.jsonl` | 1,200 | `text`, `label`, `score` |" in text
    assert "| `score` | 1,208 integer, 2 missing |  |" in text
    assert "| `label` | 1,210 text | `no` 605, `yes\\|no` 605 |" in text
    assert "Besides: `notes.md`." in text and "# mails\n" in text
    told = metadata(text)
    assert (told["license"], told["language"], told["size_categories"]) == ("mit", "en", "1K<n<10K")
    assert "task_categories" not in told
    files = [{"split": "train", "path": "train.jsonl"}, {"split": "test", "path": "test.jsonl"}]
    assert told["configs"] == [{"config_name": "default", "data_files": files}]

    (folder / "README.md").write_text(text)
    code = text.split("```python\n")[1].split("```")[0].replace("me/mails", str(folder)).replace("print", "found = ")
    found: dict[str, Any] = {}
    exec(code, found)
    assert {name: len(split) for name, split in found["found"].items()} == {"train": 1200, "test": 10}


def test_a_single_file_whose_owner_said_nothing(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "mails.csv.gz", "wt") as file:
        file.write("a,b\n1,x\n2,\n")
    text = dataset_card(tmp_path / "mails.csv.gz")
    files = [{"split": "train", "path": "mails.csv.gz"}]
    configs = [{"config_name": "default", "data_files": files}]
    assert metadata(text) == {"size_categories": "n<1K", "configs": configs}
    assert "| `b` | 1 text, 1 missing |" in text and 'load_dataset("PATH_OR_HUB_ID")' in text


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_another_separator_is_found_in_the_header_and_told_to_the_library(tmp_path: Path, separator: str) -> None:
    lines = [("text", "label"), ("well, well", "good"), ("no, no", "bad")]
    (tmp_path / "train.csv").write_text("".join(separator.join(line) + "\n" for line in lines))
    text = dataset_card(tmp_path)
    assert "| `train.csv` | 2 | `text`, `label` |" in text and metadata(text)["configs"][0]["sep"] == separator
    (tmp_path / "README.md").write_text(text)
    found = datasets.load_dataset(str(tmp_path), cache_dir=str(tmp_path / "cache"))
    assert found["train"][1] == {"text": "no, no", "label": "bad"}


def test_what_the_library_would_not_load_by_its_name_gets_no_lines_that_do(tmp_path: Path) -> None:
    (tmp_path / "squad.json").write_text(json.dumps({"data": [{"a": 1}]}))
    assert "load_dataset" not in dataset_card(tmp_path / "squad.json")
    write_rows(tmp_path / "train.jsonl", 3)
    told = dataset_card(tmp_path)  # two kinds of rows
    assert "configs" not in metadata(told) and "load_dataset" not in told


def test_images_by_folder(tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/2.JPG", "dog/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    text = dataset_card(tmp_path, task_categories=["image-classification"])
    assert "3 images" in text and "| `cat` | 2 |" in text and "| `dog` | 1 |" in text
    assert metadata(text)["task_categories"] == ["image-classification"]


def test_what_can_not_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        dataset_card(tmp_path / "nothing")
    with pytest.raises(DataError, match="holds no data file; known kinds are"):
        dataset_card(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\nbroken\n')
    with pytest.raises(DataError, match="line 2: not valid JSON"):
        dataset_card(tmp_path)
