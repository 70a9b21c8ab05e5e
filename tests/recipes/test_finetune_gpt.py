"""Teaching a model to answer, as a user does: it learns, stops by itself, and is found by transformers' pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.chat import COLOURS, questions, write_json, write_tiny_gpt
from tests.support.commands import ROOT, assert_one_line, records, result
from tests.support.warm import warm_run

RECIPE = ROOT / "recipes" / "finetune_gpt.py"


def finetune(folder: Path, *flags: Any) -> Any:
    rows = write_json(folder / "rows.json", questions())
    words = [RECIPE, "--model.name", folder / "gpt", "--data.train", rows]
    words += ["--data.max_length", 64, "--train.global_batch_size", 2, "--train.output_dir", folder / "run"]
    return warm_run(*words, *flags)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("chat")
    write_tiny_gpt(folder / "gpt")
    steps = ["--train.max_steps", 300, "--train.eval_steps", 150, "--optim.lr", "3e-3", "--answers.number", 6]
    steps += ["--data.validation", folder / "rows.json"]  # what it was taught it has to know
    finished = finetune(folder, "--data.template", "alpaca", *steps)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder / "run", finished


def test_it_learns_to_answer_and_to_stop(taught: tuple[Path, Any]) -> None:
    run, finished = taught
    metrics = result(run)["metrics"]
    assert metrics["exact_match"] == 1 and metrics["stopped"] == 1
    assert metrics["loss"] < 0.1 < records(run)[0]["loss"]
    assert "answer     'Colour? grass' -> 'green'" in finished.stdout
    assert result(run)["num_examples"] == {"train": 6, "validation": 6}


def test_the_first_example_shows_what_is_learned(taught: tuple[Path, Any]) -> None:
    line = next(line for line in taught[1].stdout.splitlines() if line.startswith("example"))
    assert "### Response:\\n<<" in line and "<|end|>>>" in line, line


def test_the_pipeline_answers_likewise(taught: tuple[Path, Any]) -> None:
    from transformers import pipeline

    model = taught[0] / "model"
    assert json.loads((model / "generation_config.json").read_text())["eos_token_id"] == [0]
    ask = pipeline("text-generation", str(model))
    for name, colour in COLOURS.items():
        asked = [{"role": "user", "content": f"Colour?\n\n{name}"}]
        answered: Any = ask(asked, max_new_tokens=20, do_sample=False)
        assert answered[0]["generated_text"][-1]["content"] == colour


def test_the_card_says_what_was_measured(taught: tuple[Path, Any]) -> None:
    card = (taught[0] / "model" / "README.md").read_text()
    assert "# gpt, taught to answer on rows.json" in card and "exact_match" in card
    assert str(taught[0].parent) not in card


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ([], ["brings no chat template", "--data.template plain or alpaca"]),
        (
            ["--data.template", "alpaca", "--data.max_length", "9"],
            ["conversations are longer", "--data.max_length 9"],
        ),
        (["--data.template", "alpaca", "--train.best_metric", "f1"], ["--train.best_metric f1", "exact_match"]),
        (
            ["--data.template", "alpaca", "--answers.number", "0", "--train.best_metric", "stopped"],
            ["--answers.number is 0"],
        ),
    ],
)
def test_mistakes_end_in_one_line(tmp_path: Path, flags: list[str], parts: list[str]) -> None:
    write_tiny_gpt(tmp_path / "gpt")
    assert_one_line(finetune(tmp_path, *flags), *parts)


def test_questions_are_those_that_leave_room(tmp_path: Path) -> None:
    """Longer ones are passed over, as they are left out of the loss, and `exact_match` is always measured."""
    long = [{"instruction": "Colour? " * 20, "output": "green"}] * 2
    write_tiny_gpt(tmp_path / "gpt")
    held_out = write_json(tmp_path / "held_out.json", [*long, *questions()])
    flags = ["--data.template", "alpaca", "--data.validation", held_out, "--train.best_metric", "exact_match"]
    flags += ["--train.max_steps", 2, "--train.eval_steps", 1, "--answers.number", 2, "--answers.max_new_tokens", 4]
    flags += ["--data.max_length", 128]
    finished = finetune(tmp_path, *flags, "--data.system", "Be short.")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "answer     'Colour? grass' -> " in finished.stdout and "'Colour? Colour?" not in finished.stdout
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert '[{"role": "system", "content": "Be short."}, {"role": "user", "content": "your question"}]' in card
    assert '{"role": "system", "content": "Be short."}, {"role": "user"' in finished.stdout.splitlines()[-1]


def test_a_model_has_to_be_named(tmp_path: Path) -> None:
    rows = write_json(tmp_path / "rows.json", questions())
    assert_one_line(warm_run(RECIPE, "--data.train", rows), "--model.name is missing")
