"""`hfscale prune` on runs as a user makes them: what it writes and says, and the training that follows."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, pipeline

from hfscale.cli import main
from tests.support.commands import ROOT, result
from tests.support.pictures import bars, write_folder
from tests.support.tiny import reviews, write_csv, write_tiny_bert
from tests.support.warm import WarmRun, warm_run


@pytest.fixture(scope="module")
def text_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    rows = write_csv(folder / "rows.csv", reviews(300))
    given = ["--model.name", write_tiny_bert(folder / "bert"), "--data.train", rows, "--train.max_steps", 60]
    given += ["--optim.lr", "5e-3", "--baselines", "false", "--train.output_dir", folder / "run"]
    finished = warm_run(ROOT / "recipes" / "finetune_bert.py", *given)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def image_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    pictures = write_folder(folder / "pictures", *bars(300))
    given = ["--data.train", pictures, "--model.conv_channels", "[8, 12]", "--train.epochs", 10]
    finished = warm_run(ROOT / "recipes" / "train_cnn.py", *given, "--train.output_dir", folder / "run")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder / "run"


def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "prune.json").read_text())


def mistake(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["prune", *map(str, words)])
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.count("\n") == 1
    return printed


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_structured_text_model_recovers_by_the_command_that_was_said(
    text_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_of(text_run)
    main(["prune", str(text_run), "--sparsity", "0.75", "--examples", "64"])
    assert files_of(text_run) == before
    pruned, printed = text_run.with_name("run-pruned"), capsys.readouterr().out
    values = report(pruned)
    assert values["layers"] == [
        {"layer": number, "kind": "feed-forward neurons", "before": 64, "after": 16} for number in range(2)
    ]
    assert values["metrics"]["before"] == pytest.approx(result(text_run)["metrics"], abs=1e-5)
    assert values["held_out"] == "validation" and 56 < values["examples"] <= 64
    model = AutoModelForSequenceClassification.from_pretrained(pruned)
    assert model.config.intermediate_size == 16
    assert values["num_parameters"]["after"] == model.num_parameters() < values["num_parameters"]["before"]
    assert values["bytes"]["after"] == (pruned / "model.safetensors").stat().st_size < values["bytes"]["before"]
    assert str(text_run.parent) not in (pruned / "prune.json").read_text() + (pruned / "README.md").read_text()
    assert "| accuracy (validation) |" in (pruned / "README.md").read_text()
    assert "64 -> 16 feed-forward neurons in each of 2 layers" in printed
    assert "attention heads stay: bert's config" in printed
    command = shlex.split(next(line for line in printed.splitlines() if line.startswith("recover")))[2:]
    finished = warm_run(*command, "--train.max_steps", "60", "--train.epochs", "null", "--optim.lr", "1e-3")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    recovered = result(text_run.with_name("run-pruned-recovered"))
    assert recovered["num_parameters"] == values["num_parameters"]["after"]
    assert recovered["metrics"]["loss"] < values["metrics"]["after"]["loss"]


def test_recovery_of_a_merged_adapter_learns_at_the_rate_of_all_weights(
    text_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(text_run, tmp_path / "run")
    settings = yaml.safe_load((text_run / "config.yaml").read_text())
    assert settings["optim"]["lr"] == 5e-3
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump({**settings, "lora": {"r": 4}}))
    main(["prune", str(tmp_path / "run"), "--sparsity", "0.75", "--importance", "magnitude"])
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("recover"))
    usual = ["--data.train", tmp_path / "rows.csv", "--train.output_dir", tmp_path / "x"]
    told, default = (
        yaml.safe_load(warm_run(*words, "--print_config").stdout)
        for words in (shlex.split(line)[2:], [ROOT / "recipes" / "finetune_bert.py", *usual])
    )
    assert told["lora"] is None and told["optim"] == settings["optim"] | {"lr": default["optim"]["lr"]}


def test_structured_image_model(image_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["prune", str(image_run / "model"), "--sparsity", "0.5", "--output", str(tmp_path / "small")])
    printed = capsys.readouterr().out
    values = report(tmp_path / "small")
    assert [(layer["before"], layer["after"]) for layer in values["layers"]] == [(8, 4), (12, 6)]
    assert values["metrics"]["before"] == pytest.approx(result(image_run)["metrics"], abs=1e-5)
    assert set(values["speed"]["speed_up"]) == {"latency", "throughput", "pruned_layers"}
    classify: Any = pipeline("image-classification", str(tmp_path / "small"), trust_remote_code=True)
    assert {found["label"] for found in classify(str(image_run / "example.png"))} == {"lying", "standing"}
    command = shlex.split(next(line for line in printed.splitlines() if line.startswith("recover")))[2:]
    finished = warm_run(*command)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert result(tmp_path / "small-recovered")["num_parameters"] == values["num_parameters"]["after"]


def test_magnitude_says_that_the_file_stays_as_large(
    text_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["prune", str(text_run), "--sparsity", "0.3", "--method", "magnitude", "--output", str(tmp_path / "zeros")])
    printed, values = capsys.readouterr().out, report(tmp_path / "zeros")
    assert "30.0% of the weights" in printed and "the file is as large as before" in printed
    assert "recover" not in printed
    assert values["share_of_zeros"]["after"] == pytest.approx(0.3, abs=1e-3)
    assert values["bytes"]["after"] == values["bytes"]["before"]
    state = load_file(tmp_path / "zeros" / "model.safetensors")
    weight = state["bert.encoder.layer.0.attention.self.query.weight"]
    assert 0 < (weight == 0).float().mean() < 1


@pytest.mark.slow
def test_movement_goes_on_where_it_was_interrupted(text_run: Path, tmp_path: Path) -> None:
    def prune(output: Path, sparsity: float = 0.8, **hooks: Any) -> Any:
        words = ("prune", text_run, "--sparsity", sparsity, "--method", "movement", "--epochs", 2, "--output", output)
        return WarmRun((ROOT / "hfscale" / "__main__.py", *words), tmp_path / "log", hooks).wait()

    whole = prune(tmp_path / "whole")
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert "in 18 steps scores are mostly noise" in whole.stderr
    assert "80.0% of the weights" in whole.stdout and "recover" not in whole.stdout
    values = report(tmp_path / "whole")
    assert values["share_of_zeros"]["after"] == pytest.approx(0.8, abs=1e-3) and values["steps"] == 18
    state = load_file(tmp_path / "whole" / "model.safetensors")
    before = load_file(text_run / "model" / "model.safetensors")
    assert state.keys() == before.keys()
    query = "bert.encoder.layer.0.attention.self.query.weight"
    kept = state[query] != 0
    assert kept.float().mean() == pytest.approx(0.2, abs=1e-3)
    assert (state[query] != before[query])[kept].all()  # the others were trained meanwhile
    smallest = before[query].abs()[~kept].max()
    assert smallest > before[query].abs()[kept].min()  # not simply the smallest
    classify: Any = pipeline("text-classification", str(tmp_path / "whole"))
    assert classify("the film was good")[0]["label"] in ("negative", "positive")
    assert not (tmp_path / "whole-training").exists()

    stopped = prune(tmp_path / "parts", signal_in_training=("SIGTERM", 9))
    assert stopped.returncode == 75 and "the same command goes on from there" in stopped.stderr
    assert not (tmp_path / "parts").exists()
    other = prune(tmp_path / "parts", 0.5)
    assert other.returncode == 2 and "parts-training holds another training" in other.stderr
    again = prune(tmp_path / "parts")
    assert again.returncode == 0, again.stdout + again.stderr
    parts = load_file(tmp_path / "parts" / "model.safetensors")
    assert all(torch.equal(parts[name], state[name]) for name in state)


def test_data_that_is_gone(text_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(text_run, tmp_path / "run")
    config = (tmp_path / "run" / "config.yaml").read_text().replace("rows.csv", "gone.csv")
    (tmp_path / "run" / "config.yaml").write_text(config)
    line = mistake(capsys, tmp_path / "run", "--sparsity", 0.5)
    assert "gone.csv" in line and "--importance magnitude" in line
    assert not (tmp_path / "run-pruned").exists()
    line = mistake(capsys, tmp_path / "run", "--sparsity", 0.5, "--method", "movement")
    assert "which --method movement needs" in line and "--method magnitude" in line
    main(["prune", str(tmp_path / "run"), "--sparsity", "0.5", "--importance", "magnitude"])
    assert "no metrics, because the run's data can't be read" in capsys.readouterr().err
    assert report(tmp_path / "run-pruned")["metrics"] is None


def test_mistakes(text_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    half = ("--sparsity", 0.5)
    for sparsity in (0, 1, -0.5, "nan"):
        assert "--sparsity must be between 0 and 1" in mistake(capsys, text_run, "--sparsity", sparsity)
    line = mistake(capsys, text_run, "--sparsity", 0.001, "--output", tmp_path / "none")
    assert "takes out none of 64 feed-forward neurons" in line and not (tmp_path / "none").exists()
    assert "there are structured, magnitude, movement" in mistake(capsys, text_run, *half, "--method", "lottery")
    assert "--epochs has no effect on --method structured" in mistake(capsys, text_run, *half, "--epochs", 1)
    words = ("--method", "movement", "--epochs", 0)
    assert "--epochs must be greater than 0" in mistake(capsys, text_run, *half, *words)
    assert "--importance size is not known" in mistake(capsys, text_run, *half, "--importance", "size")
    words = ("--method", "magnitude", "--importance", "taylor")
    assert "--importance has no effect" in mistake(capsys, text_run, *half, *words)
    words = ("--importance", "magnitude", "--examples", 8)
    assert "--examples has no effect" in mistake(capsys, text_run, *half, *words)
    assert "no such folder: nowhere" in mistake(capsys, "nowhere", *half)
    assert "holds no model" in mistake(capsys, tmp_path, *half)
    assert "exists already" in mistake(capsys, text_run, *half, "--output", tmp_path)
    assert "its folder doesn't exist" in mistake(capsys, text_run, *half, "--output", tmp_path / "a" / "b")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("data: {train: x.csv}\n")
    assert "has not finished" in mistake(capsys, tmp_path / "run", *half)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    assert "of type gpt2, which can't be pruned" in mistake(capsys, tmp_path, *half)
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "holds an adapter" in mistake(capsys, tmp_path, *half)
