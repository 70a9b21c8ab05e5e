"""The settings file that `hfscale plan` writes starts a run."""

from pathlib import Path

import pytest

from tests.support.commands import FINETUNE_BERT, launch, result, run
from tests.support.tiny import reviews, write_csv, write_tiny_bert

pytestmark = pytest.mark.slow


def test_two_processes_start_with_it(tmp_path: Path) -> None:
    rows, model = write_csv(tmp_path / "rows.csv", reviews(51)), write_tiny_bert(tmp_path / "bert")
    words = [FINETUNE_BERT, "--model.name", model, "--data.train", rows, "--train.max_steps", 2]
    words += ["--train.output_dir", tmp_path / "run", "--baselines", "false", "--train.precision", "fp32"]
    planned = run("-m", "hfscale", "plan", *words, "--gpus", 2, "--output", tmp_path / "plan.yaml")
    assert planned.returncode == 0, planned.stderr
    assert "take " in planned.stdout
    finished = launch(("--config_file", tmp_path / "plan.yaml"), *words)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert result(tmp_path / "run")["num_processes"] == 2
