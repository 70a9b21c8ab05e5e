"""The recipe as a user runs it, at small size."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support.commands import DDP, ROOT, assert_one_line, launch, records, result, run
from tests.support.tiny import reviews, write_csv
from tests.support.warm import warm_run

TRAIN_RNN = ROOT / "recipes" / "train_rnn.py"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # matrices this small only wait for each other
SMALL = ["--model.embedding_size", "16", "--model.hidden_size", "16", "--optim.lr", "1e-2"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("rnn")
    rows = write_csv(folder / "rows.csv", reviews(300))
    test = write_csv(folder / "test.csv", reviews(100, seed=1))
    words = [TRAIN_RNN, "--data.train", rows, "--data.test", test, "--train.output_dir", folder / "run", *SMALL]
    finished = warm_run(*words, "--model.dropout", "0.1", "--train.epochs", "12")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert not finished.stderr, finished.stderr
    return folder / "run", finished


def test_learns_and_says_what_it_did(trained: tuple[Path, Any]) -> None:
    values = result(trained[0])
    assert values["metrics"]["accuracy"] > 0.8
    assert values["metrics"]["accuracy"] > values["baselines"]["majority"]["accuracy"] + 0.1
    assert values["num_parameters"] == values["num_trained_parameters"] > 1000
    assert 0 < values["matmul_peak_fraction"] < 1
    said = trained[1].stdout
    assert "tokenizer  trained WordPiece, " in said and "model      bidirectional LSTM, " in said


def test_predict_reads_the_run(trained: tuple[Path, Any]) -> None:
    folder = trained[0]
    finished = run("-m", "hfscale", "predict", folder, "--text", "good fine bright great film", "bad dull")
    assert finished.returncode == 0, finished.stderr
    first, second = map(json.loads, finished.stdout.splitlines())
    assert (first["label"], second["label"]) == ("positive", "negative")


def test_the_command_it_says_works(trained: tuple[Path, Any]) -> None:
    line = next(line for line in trained[1].stdout.splitlines() if "python -c" in line)
    assert "trust_remote_code=True" in line
    code = line.split("python -c ", 1)[1]

    finished = run("-c", *shlex.split(code))
    assert finished.returncode == 0, finished.stderr
    assert "'score'" in finished.stdout


def test_the_card_names_no_base_model(trained: tuple[Path, Any]) -> None:
    card = (trained[0] / "model" / "README.md").read_text()
    assert "# Bidirectional LSTM trained on rows.csv" in card
    assert "base_model" not in card and "trust_remote_code=True" in card


CASES = {
    "cell": (["--model.cell", "rnn"], ["model.cell", "lstm", "gru"]),
    "size": (["--model.hidden_size", "0"], ["--model.hidden_size must be at least 1"]),
    "dropout": (["--model.dropout", "1"], ["--model.dropout must be in [0, 1)"]),
    "task": (["--task", "question_answering"], ["task", "question_answering"]),
    "idle setting": (
        ["--tokenizer.name", "somewhere", "--tokenizer.vocab_size", "100"],
        ["--tokenizer.vocab_size has no effect", "--tokenizer.name"],
    ),
    "small vocabulary": (
        ["--tokenizer.kind", "bpe", "--tokenizer.vocab_size", "100"],
        ["--tokenizer.vocab_size", "258"],
    ),
    "missing tokenizer": (["--tokenizer.name", "./nowhere"], ["no such tokenizer folder: ./nowhere"]),
}


@pytest.mark.parametrize("case", list(CASES))
def test_one_line(tmp_path: Path, case: str) -> None:
    flags, parts = CASES[case]
    rows = write_csv(tmp_path / "rows.csv", reviews(40))
    finished = warm_run(TRAIN_RNN, "--data.train", rows, "--train.output_dir", tmp_path / "run", *flags)
    assert_one_line(finished, *parts)
    assert not (tmp_path / "run").exists()


def test_a_gru_over_another_models_tokenizer_with_numbers_to_predict(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"text": row["text"], "label": str(0.5 + (row["label"] == "positive"))} for row in reviews(60)]
    words = [TRAIN_RNN, "--task", "regression", "--data.train", write_csv(tmp_path / "rows.csv", rows), *SMALL]
    words += ["--tokenizer.name", tiny_model, "--model.cell", "gru", "--train.epochs", "1"]
    finished = warm_run(*words, "--train.output_dir", tmp_path / "run")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert result(tmp_path / "run")["metrics"].keys() >= {"pearson", "mse"}


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    rows = write_csv(tmp_path / "rows.csv", reviews(50))
    words = [TRAIN_RNN, "--data.train", rows, "--data.validation", rows, *SMALL, "--model.dropout", "0"]
    words += ["--train.max_steps", "8", "--train.global_batch_size", "8", "--train.log_steps", "1"]
    words += ["--baselines", "false", "--train.output_dir"]
    for finished in (
        warm_run(*words, tmp_path / "one"),
        launch(DDP, *words, tmp_path / "two", env=ONE_THREAD),
    ):
        assert finished.returncode == 0, finished.stdout + finished.stderr
    assert result(tmp_path / "two")["num_processes"] == 2
    for one, two in zip(records(tmp_path / "one"), records(tmp_path / "two"), strict=True):
        assert one["loss"] == pytest.approx(two["loss"], abs=1e-5)
    weights, others = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two"))
    for name, weight in weights.items():
        torch.testing.assert_close(weight, others[name], atol=1e-5, rtol=0, msg=name)
