"""Two launches that are two machines to each other, with accelerate_configs/multi_node.yaml."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import FINETUNE_BERT, ROOT, free_port, records, result
from tests.support.tiny import reviews, write_csv, write_tiny_bert
from tests.support.warm import WarmRun

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def node(rank: int, port: int, words: list[Any]) -> Any:
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "-q"]
    launcher += ["--config_file", ROOT / "accelerate_configs" / "multi_node.yaml", "--num_processes", 2]
    launcher += ["--machine_rank", rank, "--main_process_ip", "127.0.0.1", "--main_process_port", port]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    command, pipe = [str(word) for word in (*launcher, *words)], subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environ, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def test_two_machines_train_as_one_process(tmp_path: Path) -> None:
    rows, model = write_csv(tmp_path / "rows.csv", reviews(51)), write_tiny_bert(tmp_path / "bert", dropout=0.0)
    words = [FINETUNE_BERT, "--model.name", model, "--data.train", rows, "--train.max_steps", 5]
    words += ["--train.global_batch_size", 8, "--train.log_steps", 1, "--baselines", "false", "--optim.lr", 5e-3]
    alone = WarmRun((*words, "--train.output_dir", tmp_path / "alone"), tmp_path / "log", {}).wait()
    assert alone.returncode == 0, alone.stdout + alone.stderr
    port = free_port()
    nodes = [node(rank, port, [*words, "--train.output_dir", tmp_path / "both"]) for rank in (0, 1)]
    outputs = [started.communicate(timeout=200)[0] for started in nodes]
    assert [started.returncode for started in nodes] == [0, 0], "\n".join(outputs)
    assert result(tmp_path / "both")["num_processes"] == 2
    for record, expected in zip(records(tmp_path / "both"), records(tmp_path / "alone"), strict=True):
        assert record["loss"] == pytest.approx(expected["loss"], abs=1e-5)
