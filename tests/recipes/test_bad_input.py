"""What a person gets wrong ends in one line with the way out, exit status 2, and leaves nothing behind."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import FINETUNE_BERT, assert_one_line
from tests.support.tiny import reviews, write_csv, write_tiny_bert
from tests.support.warm import warm_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    write_tiny_bert(folder / "bert")
    write_csv(folder / "good.csv", reviews(40))
    write_csv(folder / "no_label.csv", [*reviews(20), {"text": "a film", "label": ""}])
    write_csv(folder / "no_text.csv", [*reviews(20), {"text": " ", "label": "positive"}])
    write_csv(folder / "unseen.csv", [*reviews(5), {"text": "a film", "label": "positiv"}])
    (folder / "empty.csv").write_text("")
    (folder / "latin.csv").write_bytes("text,label\ngood film,positive\ncaf\xe9,negative\n".encode("latin-1"))
    (folder / "typo.yaml").write_text("optim:\n  learning_rat: 3e-5\n")
    (folder / "twice.yaml").write_text("optim:\n  lr: 3e-5\n  lr: 4e-5\n")
    (folder / "type.yaml").write_text("train:\n  max_steps: many\n")
    return folder


CASES: dict[str, tuple[list[str], list[str]]] = {
    "misspelt key": (["--optim.learning_rat", "3"], ["optim.learning_rat", "did you mean optim.lr"]),
    "misspelt block": (["--optm.lr", "3"], ["optm.lr", "did you mean optim.lr"]),
    "misspelt key in YAML": (["--config", "{f}/typo.yaml"], ["typo.yaml", "optim.learning_rat", "optim.lr"]),
    "key given twice": (["--config", "{f}/twice.yaml"], ["twice.yaml", "line 3", "lr is given twice"]),
    "wrong type": (["--train.max_steps", "2.5"], ["train.max_steps", "whole number", "2.5"]),
    "wrong type in YAML": (["--config", "{f}/type.yaml"], ["type.yaml", "train.max_steps", "many"]),
    "missing settings file": (["--config", "{f}/nothing.yaml"], ["nothing.yaml", "No such file"]),
    "missing file": (["--data.train", "{f}/god.csv"], ["god.csv", "did you mean", "good.csv"]),
    "missing column": (["--data.label", "labels"], ["good.csv", "labels", "did you mean label"]),
    "empty file": (["--data.train", "{f}/empty.csv"], ["empty.csv", "empty"]),
    "row without label": (["--data.train", "{f}/no_label.csv"], ["no_label.csv line 22", "no label"]),
    "row without text": (["--data.train", "{f}/no_text.csv"], ["no_text.csv line 22", "no text"]),
    "unseen label": (["--data.validation", "{f}/unseen.csv"], ["unseen.csv line 7", "'positiv'", "did you mean"]),
    "not UTF-8": (["--data.train", "{f}/latin.csv"], ["latin.csv line 3", "utf-8", "--data.encoding"]),
    "Hub data without network": (["--data.train", "someone/some-data"], ["someone/some-data", "Hub"]),
    "Hub model without network": (["--model.name", "someone/some-model"], ["someone/some-model", "Hub"]),
    "missing model folder": (["--model.name", "./nowhere"], ["./nowhere"]),
    "micro batch not dividing": (
        ["--train.global_batch_size", "32", "--train.micro_batch_size", "5"],
        ["--train.global_batch_size 32", "--train.micro_batch_size 5"],
    ),
    "setting without effect": (["--optim.momentum", "0.5"], ["--optim.momentum", "no effect"]),
    "unknown metric": (["--train.best_metric", "acuracy"], ["--train.best_metric acuracy", "accuracy"]),
    "tracker not installed": (["--train.trackers", "[wandb]"], ["pip install 'hfscale[wandb]'"]),
    "too long for the model": (["--data.max_length", "4000"], ["--data.max_length 4000", "64"]),
}


@pytest.mark.parametrize("case", list(CASES))
def test_one_line(folder: Path, case: str) -> None:
    flags, parts = CASES[case]
    words: list[Any] = [FINETUNE_BERT, "--train.output_dir", folder / "run"]
    for name, value in (("--model.name", folder / "bert"), ("--data.train", folder / "good.csv")):
        words += [] if name in flags else [name, value]
    finished = warm_run(*words, *[flag.format(f=folder) for flag in flags])
    assert_one_line(finished, *parts)
    assert not (folder / "run").exists()
    assert not list(folder.glob(".*"))


def test_folder_with_another_run(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("task: regression\n")
    finished = warm_run(FINETUNE_BERT, "--data.train", folder / "good.csv", "--train.output_dir", tmp_path)
    assert_one_line(finished, str(tmp_path), "task was regression", "--train.output_dir", "--train.allow_changes")
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_diverged_loss_says_what_to_try(folder: Path, tmp_path: Path) -> None:
    words = [FINETUNE_BERT, "--model.name", folder / "bert", "--data.train", folder / "good.csv"]
    words += ["--train.output_dir", tmp_path / "run", "--optim.name", "sgd", "--optim.max_grad_norm", "null"]
    finished = warm_run(*words, "--optim.lr", "1e30", "--train.max_steps", "50", "--optim.warmup_steps", "0")
    assert finished.returncode == 1
    (line,) = finished.stderr.splitlines()
    for part in ("error: step ", "--optim.lr", "--optim.warmup_steps", "--optim.max_grad_norm"):
        assert part in line
