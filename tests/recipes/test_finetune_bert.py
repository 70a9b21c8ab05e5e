"""The recipe as a user runs it, for each task, at small size."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.commands import FINETUNE_BERT, ROOT, records, result, run
from tests.support.tiny import reviews, write_csv, write_tiny_bert
from tests.support.warm import warm_run

RESULT_KEYS = {
    "metrics", "steps", "epochs", "train_seconds", "samples_per_second", "tokens_per_second", "peak_memory_bytes",
    "num_parameters", "num_trained_parameters", "num_processes", "resumed_from", "baselines",
}  # fmt: skip


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("model") / "bert")


def finetune(bert: Path, folder: Path, *flags: Any) -> Any:
    words = [FINETUNE_BERT, "--model.name", bert, "--train.output_dir", folder / "run", "--optim.lr", "3e-3"]
    finished = warm_run(*words, *flags)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert not finished.stderr, finished.stderr
    return finished


@pytest.fixture(scope="module")
def trained(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("single")
    rows = write_csv(folder / "rows.csv", reviews(400))
    test = write_csv(folder / "test.csv", reviews(100, seed=1))
    flags = ["--data.train", rows, "--data.test", test, "--train.epochs", "20", "--train.eval_steps", "30"]
    finished = finetune(bert, folder, *flags, "--train.trackers", "[tensorboard]")
    return folder / "run", finished


def test_learns_and_beats_the_majority(trained: tuple[Path, Any]) -> None:
    values = result(trained[0])
    assert values.keys() >= RESULT_KEYS
    assert values["metrics"]["accuracy"] > 0.85
    assert values["metrics"]["accuracy"] > values["baselines"]["majority"]["accuracy"] + 0.1
    losses = [record["loss"] for record in records(trained[0])]
    assert losses[0] == pytest.approx(0.69, abs=0.15), "a new head over two classes starts near ln 2"
    assert losses[-1] < losses[0] / 2


def test_run_folder(trained: tuple[Path, Any]) -> None:
    run_folder = trained[0]
    names = {"config.yaml", "environment.json", "metrics.jsonl", "model", "result.json", "learning_curve.png"}
    assert names <= {path.name for path in run_folder.iterdir()}
    assert (run_folder / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert list(run_folder.rglob("events.out.tfevents*")), "the tracker wrote nothing"
    keys = {"step", "loss", "lr", "grad_norm", "tokens_per_second"}
    assert all(record.keys() >= keys for record in records(run_folder))
    evaluated = [record for record in records(run_folder) if "eval_accuracy" in record]
    assert [record["step"] for record in evaluated][:2] == [30, 60]


def test_best_weights_are_kept(trained: tuple[Path, Any]) -> None:
    evaluated = [record for record in records(trained[0]) if "eval_accuracy" in record]
    best = max(evaluated, key=lambda record: (record["eval_accuracy"], -record["eval_loss"]))
    assert result(trained[0])["best_step"] == best["step"]


def test_settings_run_the_same_again(trained: tuple[Path, Any], tmp_path: Path) -> None:
    finished = warm_run(
        FINETUNE_BERT,
        "--config",
        trained[0] / "config.yaml",
        "--train.output_dir",
        tmp_path / "again",
        "--train.trackers",
        "null",
    )
    assert finished.returncode == 0, finished.stderr
    first, again = records(trained[0]), records(tmp_path / "again")
    assert [r["loss"] for r in first] == [r["loss"] for r in again], "the same seed must give the same bits"
    assert result(trained[0])["metrics"] == result(tmp_path / "again")["metrics"]


def test_pipeline_and_predict_agree(trained: tuple[Path, Any], tmp_path: Path) -> None:
    from transformers import pipeline

    run_folder, _ = trained
    text = "a really great film"
    expected = pipeline("text-classification", str(run_folder / "model"))(text)[0]
    assert expected["label"] in ("positive", "negative")
    finished = run("-m", "hfscale", "predict", run_folder, "--text", text, "the plot was dull")
    assert finished.returncode == 0, finished.stderr
    predictions = [json.loads(line) for line in finished.stdout.splitlines()]
    assert [prediction["text"] for prediction in predictions] == [text, "the plot was dull"]
    assert predictions[0]["label"] == expected["label"]
    assert predictions[0]["score"] == pytest.approx(expected["score"], abs=1e-5)
    rows = write_csv(tmp_path / "new.csv", reviews(9, seed=5))
    finished = run("-m", "hfscale", "predict", run_folder, "--file", rows, "--output", tmp_path / "out.jsonl")
    assert finished.returncode == 0, finished.stderr
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [prediction["text"] for prediction in written] == [row["text"] for row in reviews(9, seed=5)]


def test_model_folder_names_no_path_of_this_machine(trained: tuple[Path, Any], bert: Path) -> None:
    for path in [*(trained[0] / "model").iterdir(), *next((trained[0] / "checkpoints").glob("best-*")).iterdir()]:
        if path.suffix in (".json", ".md"):
            text = path.read_text()
            assert str(bert.parent) not in text, path.name
            assert str(trained[0].parent) not in text, path.name


def test_sentence_pairs(bert: Path, tmp_path: Path) -> None:
    rows = [
        {"a": one["text"], "b": two["text"], "same": str(int(one["label"] == two["label"]))}
        for one, two in zip(reviews(200), reviews(200, 1), strict=True)
    ]
    finished = finetune(
        bert,
        tmp_path,
        "--data.train",
        write_csv(tmp_path / "pairs.csv", rows),
        "--data.text",
        "[a, b]",
        "--data.label",
        "same",
        "--train.epochs",
        "1",
    )
    assert "--text" in finished.stdout
    finished = run("-m", "hfscale", "predict", tmp_path / "run", "--text", "a good film", "a bad film")
    assert json.loads(finished.stdout)["text_pair"] == "a bad film"
    finished = run("-m", "hfscale", "predict", tmp_path / "run", "--text", "only one")
    assert finished.returncode == 2
    assert "pairs" in finished.stderr


def test_several_labels_at_once(bert: Path, tmp_path: Path) -> None:
    rows = [
        {"text": row["text"], "tags": [row["label"], *(["long"] if len(row["text"]) > 50 else [])]}
        for row in reviews(200)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    finetune(
        bert,
        tmp_path,
        "--task",
        "multi_label_classification",
        "--data.train",
        path,
        "--data.label",
        "tags",
        "--train.epochs",
        "10",
    )
    values = result(tmp_path / "run")
    assert list(values["metrics"]) == ["f1_micro", "f1_macro", "subset_accuracy", "loss"]
    assert values["metrics"]["f1_micro"] > values["baselines"]["majority"]["f1_micro"]
    labels = json.loads((tmp_path / "run" / "model" / "config.json").read_text())["id2label"]
    assert list(labels.values()) == ["long", "negative", "positive"]


def test_regression(bert: Path, tmp_path: Path) -> None:
    rows = [{"text": row["text"], "label": str(len(row["text"].split()) / 10)} for row in reviews(300)]
    finetune(
        bert,
        tmp_path,
        "--task",
        "regression",
        "--data.train",
        write_csv(tmp_path / "rows.csv", rows),
        "--train.epochs",
        "15",
    )
    assert result(tmp_path / "run")["metrics"]["pearson"] > 0.8
    finished = run("-m", "hfscale", "predict", tmp_path / "run", "--text", "good film " * 9)
    assert json.loads(finished.stdout)["value"] > 1.0


def test_early_stop_and_no_validation(bert: Path, tmp_path: Path) -> None:
    rows = write_csv(tmp_path / "rows.csv", reviews(60))
    common = ["--data.train", rows, "--baselines", "false", "--train.max_steps", "40"]
    finished = finetune(
        bert, tmp_path / "a", *common, "--train.early_stop", "1", "--train.eval_steps", "1", "--optim.lr", "1e-9"
    )
    assert "stopped early" in finished.stdout
    assert result(tmp_path / "a" / "run")["steps"] < 40
    finished = finetune(bert, tmp_path / "b", *common, "--data.validation_fraction", "0")
    assert result(tmp_path / "b" / "run")["metrics"] == {}
    assert (tmp_path / "b" / "run" / "model" / "model.safetensors").exists()


@pytest.mark.parametrize(
    "path", sorted((ROOT / "recipes" / "configs" / "finetune_bert").glob("*.yaml")), ids=lambda p: p.stem
)
def test_shipped_settings_are_understood(path: Path) -> None:
    finished = run(FINETUNE_BERT, "--config", path, "--print_config")
    assert finished.returncode == 0, finished.stderr
    given, resolved = yaml.safe_load(path.read_text()), yaml.safe_load(finished.stdout)
    for block, values in given.items():
        found = resolved[block]
        assert (found if block == "task" else {name: found[name] for name in values}) == values
