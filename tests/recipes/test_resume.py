"""However a run ends, the same command goes on exactly where it was: same order, same metrics, same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support.commands import ROOT, records, result
from tests.support.language import sentences, write_lines
from tests.support.pictures import bars, write_folder
from tests.support.tiny import reviews, write_csv, write_tiny_bert
from tests.support.warm import warm_run

CLOCK = ("samples_per_second", "tokens_per_second", "matmul_peak_fraction")
STEPS = 17


def bert(folder: Path) -> list[Any]:
    """50 examples in batches of 8: 7 steps an epoch, the last with 2 examples."""
    rows = write_csv(folder / "rows.csv", reviews(50))
    words = ["finetune_bert.py", "--model.name", write_tiny_bert(folder / "bert"), "--data.train", rows]
    return [*words, "--data.validation", rows, "--optim.lr", "5e-3", "--baselines", "false", "--train.eval_steps", 6]


def gpt(folder: Path) -> list[Any]:
    lines = write_lines(folder / "lines.txt", sentences(60))
    words = ["pretrain_gpt.py", "--data.train", lines, "--data.documents", "line", "--data.max_length", 32]
    words += ["--model.hidden_size", 16, "--model.num_layers", 1, "--model.num_heads", 2, "--model.dropout", 0.1]
    return [*words, "--tokenizer.vocab_size", 300, "--samples.max_new_tokens", 4, "--train.eval_steps", 6]


def cnn(folder: Path) -> list[Any]:
    images = write_folder(folder / "images", *bars(60))
    words = ["train_cnn.py", "--data.train", images, "--augment.shift", 0.1, "--model.dropout", 0.2]
    return [*words, "--baselines", "false", "--train.eval_steps", 6]


RECIPES = {"finetune_bert": bert, "pretrain_gpt": gpt, "train_cnn": cnn}


class Training:
    """One command, run under several circumstances."""

    def __init__(self, folder: Path, words: list[Any]) -> None:
        recipe, *flags = words
        self.folder = folder
        self.words = [ROOT / "recipes" / recipe, *flags, "--train.max_steps", STEPS, "--train.log_steps", 1]
        self.words += ["--train.global_batch_size", 8, "--train.micro_batch_size", 2]

    def run(self, name: str, *more: Any, **hooks: Any) -> Any:
        trace = self.folder / f"{name}.trace"
        words = [*self.words, "--train.output_dir", self.folder / name, *more]
        return warm_run(self.folder / name, *words, trace=str(trace), **hooks)

    def order(self, name: str) -> dict[int, Any]:
        """What each step learned from; a step that was made twice counts as made last."""
        lines = (self.folder / f"{name}.trace").read_text().splitlines()
        steps: dict[int, Any] = {}
        known = self.reference_order
        for line in lines:
            rows = json.loads(line)
            steps[known.index(rows)] = rows
        return steps

    @property
    def reference_order(self) -> list[Any]:
        return [json.loads(line) for line in (self.folder / "reference.trace").read_text().splitlines()]

    def assert_equal(self, name: str, other: str = "reference") -> None:
        """The same weights, and the same metrics but for what the clock says."""
        weights, others = (load_file(self.folder / run / "model" / "model.safetensors") for run in (name, other))
        assert weights.keys() == others.keys()
        for key, weight in weights.items():
            assert torch.equal(weight, others[key]), key
        assert without_clock(self.folder / name) == without_clock(self.folder / other)
        assert result(self.folder / name)["metrics"] == result(self.folder / other)["metrics"]
        assert result(self.folder / name)["best_step"] == result(self.folder / other)["best_step"]


def without_clock(run: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key not in CLOCK} for record in records(run)]


@pytest.fixture(scope="module", params=list(RECIPES))
def training(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Training:
    folder = tmp_path_factory.mktemp(request.param)
    made = Training(folder, RECIPES[request.param](folder))
    finished = made.run("reference")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert len(made.reference_order) == STEPS
    return made


def test_killed_twice_is_as_if_never_stopped(training: Training) -> None:
    """With accumulation, dropout, and both kills behind a checkpoint, in another epoch each."""
    killed = [training.run("killed", "--train.save_steps", 3, signal_in_training=("SIGKILL", n)) for n in (21, 30)]
    assert [end.returncode for end in killed] == [-9, -9]
    assert "resumed    from step-000003 of 17" in killed[1].stdout
    finished = training.run("killed", "--train.save_steps", 3)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "resumed    from step-000009 of 17" in finished.stdout
    training.assert_equal("killed")
    assert result(training.folder / "killed")["resumed_from"] == "step-000009"
    assert list(training.order("killed").values()) == training.reference_order
    rates = result(training.folder / "killed")
    assert rates["samples_per_second"] * rates["train_seconds"] == pytest.approx(
        result(training.folder / "reference")["samples_per_second"]
        * result(training.folder / "reference")["train_seconds"]
    )


def test_told_to_stop_between_micro_batches(training: Training) -> None:
    """The step that was begun is made again from its beginning, with the same random numbers."""
    stopped = training.run("told", signal_in_training=("SIGTERM", 4 * 8 + 2))
    assert stopped.returncode == 75, stopped.stdout + stopped.stderr
    assert "stopped by SIGTERM after step 8 of 17; saved in" in stopped.stderr
    assert "goes on from there" in stopped.stderr.splitlines()[-1]
    finished = training.run("told")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    training.assert_equal("told")
