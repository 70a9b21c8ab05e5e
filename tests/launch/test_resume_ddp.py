"""Two processes: one is killed, both are told to stop, another number of processes goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from tests.support.commands import DDP, FINETUNE_BERT, ROOT, records, result
from tests.support.tiny import reviews, write_csv, write_tiny_bert
from tests.support.warm import WarmRun

STEPS = 24


class Runs:
    """One command, on one process or two; without dropout both do the same."""

    def __init__(self, folder: Path, dropout: float = 0.0) -> None:
        self.folder = folder
        rows, model = write_csv(folder / "rows.csv", reviews(50)), write_tiny_bert(folder / "bert", dropout=dropout)
        self.words = [FINETUNE_BERT, "--model.name", model, "--data.train", rows, "--data.validation", rows]
        self.words += [
            "--baselines",
            "false",
            "--train.max_steps",
            STEPS,
            "--train.log_steps",
            1,
            "--optim.lr",
            "5e-3",
        ]
        self.words += ["--train.global_batch_size", 8, "--train.micro_batch_size", 2, "--train.save_steps", 4]

    def alone(self, name: str, **hooks: Any) -> Any:
        words = (*self.words, "--train.output_dir", self.folder / name)
        return WarmRun(words, self.folder / f"{name}_log", hooks).wait()

    def two(self, name: str, during: Callable[[Any, Path], None] | None = None, seconds: float = 0.0) -> Any:
        """`accelerate launch` on two processes, each forward pass so much longer; `during` it something is done."""
        hooks = json.dumps({"slow_steps": seconds})
        launcher = [sys.executable, "-m", "accelerate.commands.launch", "-q", *DDP, "-m", "tests.support.hooks", hooks]
        words = [*launcher, *self.words, "--train.output_dir", self.folder / name]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen([str(word) for word in words], cwd=ROOT, env={**os.environ}, **pipes) as process:
            if during:
                during(process, self.folder / name)
            stdout, stderr = process.communicate(timeout=200)
        return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)


def wait_for_step(run: Path, step: int) -> None:
    """Until a checkpoint is there, and a little longer."""
    end = time.monotonic() + 120
    while not (run / "checkpoints" / f"step-{step:06d}").exists():
        assert time.monotonic() < end, "no checkpoint"
        time.sleep(0.05)
    time.sleep(0.1)


def workers(process: Any) -> dict[int, psutil.Process]:
    """The processes of a launch by rank."""
    return {
        int(child.environ()["RANK"]): child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "RANK" in child.environ()
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("ddp"))


@pytest.fixture(scope="module")
def whole(runs: Runs) -> Path:
    """One process, never stopped."""
    finished = runs.alone("whole")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return runs.folder / "whole"


@pytest.fixture(scope="module")
def killed(runs: Runs) -> Path:
    """Two processes, the second of them killed after a checkpoint."""
    since: list[float] = []

    def kill(process: Any, run: Path) -> None:
        wait_for_step(run, 8)
        workers(process)[1].send_signal(signal.SIGKILL)
        since.append(time.monotonic())

    finished = runs.two("killed", kill, seconds=0.05)
    assert time.monotonic() - since[0] < 60, "the other process waited for the dead one"
    assert finished.returncode != 0
    lines = [line for line in finished.stderr.splitlines() if "another process of this run has ended" in line]
    assert len(lines) == 1 and "and the same command goes on from there" in finished.stderr, finished.stderr
    assert not (runs.folder / "killed" / "result.json").exists()
    return runs.folder / "killed"


def assert_equal(run: Path, whole: Path, tolerance: float) -> None:
    assert [record["step"] for record in records(run)] == list(range(1, STEPS + 1))
    for record, expected in zip(records(run), records(whole), strict=True):
        for name in ("loss", "eval_loss", "eval_accuracy"):
            assert record.get(name, 0) == pytest.approx(expected.get(name, 0), abs=tolerance, rel=0)
    weights, expected_weights = (load_file(folder / "model" / "model.safetensors") for folder in (run, whole))
    for name, weight in weights.items():
        torch.testing.assert_close(weight, expected_weights[name], atol=max(tolerance, 0), rtol=0)


def test_the_launch_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    """Told to stop, and on two processes again, with dropout: the bits of two processes that were never stopped."""
    runs = Runs(tmp_path, dropout=0.2)
    undisturbed = runs.two("undisturbed")
    assert undisturbed.returncode == 0, undisturbed.stderr

    def stop(process: Any, run: Path) -> None:
        wait_for_step(run, 16)
        process.send_signal(signal.SIGTERM)

    stopped = runs.two("again", stop, seconds=0.05)
    assert stopped.returncode != 0
    assert stopped.stderr.count("stopped by SIGTERM after step ") == 1, stopped.stderr
    assert "; saved in " in stopped.stderr
    finished = runs.two("again")
    assert finished.returncode == 0, finished.stderr
    assert_equal(runs.folder / "again", runs.folder / "undisturbed", 0)
    assert result(runs.folder / "again")["num_processes"] == 2


def test_one_process_goes_on_for_two(runs: Runs, killed: Path, whole: Path) -> None:
    shutil.copytree(killed, runs.folder / "fewer")
    finished = runs.alone("fewer")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "the run went on 2 processes before, now on 1" in finished.stderr
    assert_equal(runs.folder / "fewer", whole, 1e-5)


def test_two_processes_go_on_for_one(runs: Runs, whole: Path) -> None:
    assert runs.alone("more", signal_in_training=("SIGKILL", 4 * 9 + 1)).returncode == -9
    finished = runs.two("more")
    assert finished.returncode == 0, finished.stderr
    assert "resumed    from step-000008; 24 steps in all" in finished.stdout
    assert "the run went on 1 process before, now on 2" in finished.stderr
    assert_equal(runs.folder / "more", whole, 1e-5)
