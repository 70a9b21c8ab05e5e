"""Two real processes over gloo, started the ways that people start them."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import DDP, FINETUNE_BERT, ROOT, launch, result, run
from tests.support.tiny import reviews, write_csv, write_tiny_bert

STARTS = {
    "config file": lambda words: launch(DDP, *words),
    "flags": lambda words: launch(
        (
            "--multi_gpu",
            "--num_processes",
            "2",
            "--num_machines",
            "1",
            "--mixed_precision",
            "no",
            "--dynamo_backend",
            "no",
        ),
        *words,
    ),
    "torchrun": lambda words: run("-m", "torch.distributed.run", "--nproc_per_node", "2", *words),
}


def recipe(folder: Path, rows: list[dict[str, str]], *more: Any) -> list[Any]:
    write_csv(folder / "rows.csv", rows)
    write_tiny_bert(folder / "bert")
    words = [FINETUNE_BERT, "--model.name", folder / "bert", "--data.train", folder / "rows.csv"]
    return [*words, "--train.output_dir", folder / "run", "--train.max_steps", "3", "--baselines", "false", *more]


@pytest.mark.parametrize(
    "start", ["config file", *(pytest.param(name, marks=pytest.mark.slow) for name in ("flags", "torchrun"))]
)
def test_processes_know_of_each_other(tmp_path: Path, start: str) -> None:
    finished = STARTS[start](recipe(tmp_path, reviews(60)))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert result(tmp_path / "run")["num_processes"] == 2
    assert finished.stdout.count("running    2 processes (MULTI_CPU)") == 1
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()


def test_no_thread_outlives_the_process_group(tmp_path: Path) -> None:
    """One that is left aborts the process at times, when the run is over and done."""
    finished = launch(DDP, ROOT / "tests" / "support" / "threads_left.py", *recipe(tmp_path, reviews(60)))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    left = [line.split()[1:] for line in finished.stdout.splitlines() if line.startswith("threads ")]
    assert len(left) == 2
    assert not [name for names in left for name in names if "gloo" in name], left


def test_a_mistake_is_said_once_and_leaves_nothing(tmp_path: Path) -> None:
    rows = [*reviews(30), {"text": "", "label": "positive"}]
    finished = launch(("-q", *DDP), *recipe(tmp_path, rows))
    assert finished.returncode != 0
    assert finished.stderr.count("rows.csv line 32: no text in column text") == 1
    assert "stopped, because another process of this run has ended" in finished.stderr
    assert not (tmp_path / "run").exists()


def test_cpu_config_file_is_one_process(tmp_path: Path) -> None:
    config = Path(DDP[1]).with_name("cpu.yaml")
    finished = launch(("--config_file", config), *recipe(tmp_path, reviews(60)))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert result(tmp_path / "run")["num_processes"] == 1
