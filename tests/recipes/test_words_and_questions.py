"""The recipe as a user runs it, to tag words and to answer questions, at small size."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import DDP, FINETUNE_BERT, assert_one_line, launch, records, result, run
from tests.support.tiny import FILLERS, PRAISE, write_tiny_bert
from tests.support.warm import warm_run

WORDS = ("--task", "token_classification")
QUESTIONS = ("--task", "question_answering")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    write_tiny_bert(folder / "bert", dropout=0.0)
    (folder / "train.txt").write_text(column_file(400, seed=0))
    (folder / "test.conll").write_text(column_file(60, seed=1))
    (folder / "short.txt").write_text(column_file(30, seed=2) + "\ngood\n")
    (folder / "unseen.txt").write_text("the O\ngood B-MOOD\n")
    (folder / "train.json").write_text(json.dumps(squad(300, seed=0)))
    (folder / "dev.json").write_text(json.dumps(squad(60, seed=1)))
    moved = squad(60, seed=1)
    moved["data"][0]["paragraphs"][3]["qas"][0]["answers"][0]["answer_start"] += 1
    (folder / "moved.json").write_text(json.dumps(moved))
    return folder


ENTITIES = {"PRAISE": [["very", "good"], ["bright"]], "BLAME": [["quite", "slow"], ["poor"]]}


def column_file(number: int, seed: int) -> str:
    """Sentences with words of praise and blame as entities; `not` at the beginning turns each into the other."""
    draw = random.Random(seed)
    lines = []
    for _ in range(number):
        turned = draw.random() < 0.4
        lines += ["not O"] if turned else []
        for _ in range(draw.randint(1, 4)):
            lines += [f"{word} O" for word in draw.choices(FILLERS[:8], k=draw.randint(1, 4))]
            kind = draw.choice(["PRAISE", "BLAME"])
            first, *more = draw.choice(ENTITIES[kind])
            kind = {"PRAISE": "BLAME", "BLAME": "PRAISE"}[kind] if turned else kind
            lines += [f"{first} B-{kind}", *(f"{word} I-{kind}" for word in more)]
        lines.append("")
    return "\n".join(lines)


def squad(number: int, seed: int) -> dict[str, Any]:
    """Contexts of 30 words with a single word of praise, which is the answer."""
    draw = random.Random(seed)
    paragraphs = []
    for row in range(number):
        words = draw.choices(FILLERS, k=30)
        words[draw.randrange(30)] = answer = draw.choice(PRAISE)
        context = " ".join(words)
        found = [{"text": answer, "answer_start": f" {context} ".index(f" {answer} ")}]
        paragraphs.append({"context": context, "qas": [{"id": f"{seed}-{row}", "question": "bad", "answers": found}]})
    return {"version": "1.1", "data": [{"title": "films", "paragraphs": paragraphs}]}


def finetune(folder: Path, output: Path, *flags: Any, launcher: tuple[str, ...] = ()) -> Any:
    words = [
        FINETUNE_BERT,
        "--model.name",
        folder / "bert",
        "--train.output_dir",
        output,
        "--optim.lr",
        "3e-3",
        *flags,
    ]
    finished = launch(launcher, *words) if launcher else warm_run(*words)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished


def test_words(folder: Path, tmp_path: Path) -> None:
    from transformers import pipeline

    files = ["--data.train", folder / "train.txt", "--data.test", folder / "test.conll"]
    finished = finetune(folder, tmp_path / "run", *WORDS, *files, "--train.epochs", "40")
    assert not finished.stderr
    values = result(tmp_path / "run")
    assert list(values["metrics"]) == ["f1", "precision", "recall", "accuracy", "loss"]
    assert values["metrics"]["f1"] > 0.95
    assert values["metrics"]["f1"] > values["baselines"]["frequent_tag"]["f1"] + 0.1
    model = tmp_path / "run" / "model"
    names = list(json.loads((model / "config.json").read_text())["id2label"].values())
    assert names == ["B-BLAME", "B-PRAISE", "I-BLAME", "I-PRAISE", "O"]
    assert "pipeline_tag: token-classification" in (model / "README.md").read_text()
    text = "not the plot was very good the film was poor"
    found = pipeline("token-classification", str(model), aggregation_strategy="first")(text)
    assert {part["word"]: part["entity_group"] for part in found} == {"very good": "BLAME", "poor": "PRAISE"}
    shown = f'pipeline("token-classification", "{model}", aggregation_strategy="first")'
    assert "try it     hfscale predict" in finished.stdout and shown in finished.stdout
    assert 'aggregation_strategy="first"' in (model / "README.md").read_text()
    finished = run("-m", "hfscale", "predict", tmp_path / "run", "--text", text)
    assert json.loads(finished.stdout)["entities"] == [
        {"label": "BLAME", "text": "very good", "words": [4, 6]},
        {"label": "PRAISE", "text": "poor", "words": [9, 10]},
    ]
    finished = run("-m", "hfscale", "predict", tmp_path / "run", "--file", folder / "test.conll")
    assert len(finished.stdout.splitlines()) == 60, finished.stderr


def test_questions(folder: Path, tmp_path: Path) -> None:
    files = ["--data.train", folder / "train.json", "--data.validation", folder / "dev.json"]
    windows = ["--data.max_length", "24", "--data.stride", "6"]
    finished = finetune(folder, tmp_path / "run", *QUESTIONS, *files, *windows, "--train.epochs", "4")
    assert not finished.stderr
    assert "300 questions were read in 600 windows of 24 tokens" in finished.stdout
    values = result(tmp_path / "run")
    assert list(values["metrics"]) == ["f1", "exact_match", "loss"]
    assert values["metrics"]["exact_match"] > 0.95
    assert values["baselines"] == {} and "baseline" not in finished.stdout
    question = ["bad", "the film was really slow and the cast was not very great"]
    finished = run("-m", "hfscale", "predict", tmp_path / "run", "--text", *question)
    prediction = json.loads(finished.stdout)
    assert prediction["answer"] == "great" == question[1][prediction["start"] : prediction["end"]]
    finished = run("-m", "hfscale", "predict", tmp_path / "run", "--file", folder / "dev.json")
    assert [json.loads(line)["id"] for line in finished.stdout.splitlines()] == [f"1-{row}" for row in range(60)]
    finished = run("-m", "hfscale", "predict", tmp_path / "run", "--text", "only a question")
    assert_one_line(finished, "--text QUESTION CONTEXT")


@pytest.mark.parametrize("task", [WORDS, QUESTIONS], ids=["words", "questions"])
def test_two_processes_are_one(folder: Path, tmp_path: Path, task: tuple[str, str]) -> None:
    end = ".txt" if task == WORDS else ".json"
    windows = ["--data.max_length", "12"] if task == WORDS else ["--data.max_length", "24", "--data.stride", "6"]
    settings = [*task, "--data.train", folder / f"train{end}", "--data.validation_fraction", "0.3", *windows]
    settings += ["--train.max_steps", "6", "--train.log_steps", "1", "--train.global_batch_size", "8"]
    settings += ["--train.eval_batch_size", "7"]
    finetune(folder, tmp_path / "one", *settings)
    finetune(folder, tmp_path / "two", *settings, "--train.micro_batch_size", "2", launcher=DDP)
    one, two = records(tmp_path / "one"), records(tmp_path / "two")
    assert [r["loss"] for r in one] == pytest.approx([r["loss"] for r in two], abs=1e-5)
    metrics = result(tmp_path / "two")["metrics"]
    assert metrics == pytest.approx(result(tmp_path / "one")["metrics"], abs=1e-5)
    assert result(tmp_path / "two")["num_processes"] == 2


CASES: dict[str, tuple[list[str], list[str]]] = {
    "too few columns": ([*WORDS, "--data.train", "{f}/short.txt"], ["short.txt line", "1 columns, not the 2"]),
    "unseen tag": (
        [*WORDS, "--data.train", "{f}/train.txt", "--data.validation", "{f}/unseen.txt"],
        ["unseen.txt line 1, word 2 'good'", "'B-MOOD'", "does not occur"],
    ),
    "answer that stands elsewhere": (
        [*QUESTIONS, "--data.train", "{f}/moved.json"],
        ["moved.json item 1 paragraph 4 question 1-3", "doesn't stand at character"],
    ),
    "stride for texts": (["--data.stride", "8"], ["--data.stride has no effect"]),
    "stride without end": (
        [*QUESTIONS, "--data.train", "{f}/train.json", "--data.max_length", "12", "--data.stride", "8"],
        ["train.json item 1 paragraph", "--data.max_length 12", "--data.stride 8"],
    ),
    "metric of another task": ([*QUESTIONS, "--train.best_metric", "accuracy"], ["f1, exact_match, loss"]),
    "baselines of none": ([*QUESTIONS, "--baselines", "true"], ["--baselines has no effect"]),
    "one column for two": ([*QUESTIONS, "--data.text", "question"], ["--data.text takes two columns"]),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line(folder: Path, tmp_path: Path, case: str) -> None:
    flags, parts = CASES[case]
    words = [FINETUNE_BERT, "--model.name", folder / "bert", "--train.output_dir", tmp_path / "run"]
    finished = warm_run(*words, *[flag.format(f=folder) for flag in flags])
    assert_one_line(finished, *parts)
    assert not (tmp_path / "run").exists()
