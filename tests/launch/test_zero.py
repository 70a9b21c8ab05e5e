"""ZeRO on two real processes: the losses of one process, shares that are really shares, whole models, exact resume."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support.commands import ROOT, free_port, records, result
from tests.support.language import sentences, write_lines
from tests.support.tiny import reviews, write_csv, write_tiny_bert
from tests.support.warm import WarmRun

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="needs the extra `deepspeed`"),
]
STEPS = 10
CONFIGS = ("ddp", "zero1", "zero2", "zero3", "zero3_offload")


def bert(folder: Path) -> list[Any]:
    rows, model = write_csv(folder / "rows.csv", reviews(51)), write_tiny_bert(folder / "bert", dropout=0.0)
    words = ["finetune_bert.py", "--model.name", model, "--data.train", rows, "--data.validation", rows]
    return [*words, "--baselines", "false"]


def gpt(folder: Path) -> list[Any]:
    lines = write_lines(folder / "lines.txt", sentences(60))
    words = ["pretrain_gpt.py", "--data.train", lines, "--data.documents", "line", "--data.max_length", 32]
    words += ["--model.hidden_size", 16, "--model.num_layers", 1, "--model.num_heads", 2]
    return [*words, "--tokenizer.vocab_size", 300, "--samples.max_new_tokens", 4]


RECIPES = {"finetune_bert": bert, "pretrain_gpt": gpt}


class Runs:
    """One command, on one process or sharded over two."""

    def __init__(self, folder: Path, command: Callable[[Path], list[Any]]) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        name, *flags = command(folder)
        self.words = [ROOT / "recipes" / name, *flags, "--train.max_steps", STEPS, "--train.log_steps", 1]
        self.words += ["--train.global_batch_size", 8, "--train.micro_batch_size", 2, "--train.save_steps", 4]
        self.words += ["--train.eval_steps", 5, "--optim.lr", 5e-3]

    def alone(self, name: str, **hooks: Any) -> Any:
        words = (*self.words, "--train.output_dir", self.folder / name)
        return WarmRun(words, self.folder / f"{name}_log{len(hooks)}", hooks).wait()

    def two(self, config: str, name: str, **hooks: Any) -> Any:
        if config.startswith("zero"):  # stage 3 would keep weights as small as these whole
            hooks["gather_small_weights"] = ""
        launcher = [sys.executable, "-m", "accelerate.commands.launch", "-q", "--main_process_port", free_port()]
        launcher += ["--config_file", ROOT / "accelerate_configs" / f"{config}.yaml"]
        launcher += ["-m", "tests.support.hooks", json.dumps(hooks)]
        words = [str(word) for word in (*launcher, *self.words, "--train.output_dir", self.folder / name)]
        environ = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(words, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module", params=list(RECIPES))
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    made = Runs(tmp_path_factory.mktemp(request.param), RECIPES[request.param])
    finished = made.alone("whole")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return made


def assert_done(run: Path, finished: Any) -> None:
    """By its files: DeepSpeed's threads have been seen to abort a process that was over and done."""
    assert (run / "result.json").exists() and result(run)["complete"], finished.stdout + finished.stderr


def assert_equal(run: Path, whole: Path, tolerance: float) -> None:
    assert [record["step"] for record in records(run)] == list(range(1, STEPS + 1))
    for record, expected in zip(records(run), records(whole), strict=True):
        for name in ("loss", "grad_norm", "eval_loss"):
            assert record.get(name, 0) == pytest.approx(expected.get(name, 0), abs=tolerance, rel=tolerance)
    weights, expected_weights = (load_file(folder / "model" / "model.safetensors") for folder in (run, whole))
    assert weights.keys() == expected_weights.keys()
    for name, weight in weights.items():
        assert weight.shape == expected_weights[name].shape and weight.numel(), name
        torch.testing.assert_close(weight, expected_weights[name], atol=tolerance, rtol=0, msg=name)


@pytest.mark.parametrize("config", CONFIGS)
def test_sharded_training_is_the_same_training(runs: Runs, config: str, tmp_path: Path) -> None:
    hooks = {} if config == "ddp" else {"count_shares": str(tmp_path)}  # under DDP every process holds everything
    finished = runs.two(config, config, **hooks)
    assert_done(runs.folder / config, finished)
    run, whole = runs.folder / config, runs.folder / "whole"
    assert_equal(run, whole, 1e-5)
    assert result(run)["metrics"] == pytest.approx(result(whole)["metrics"], abs=1e-5)
    assert result(run)["num_parameters"] == result(whole)["num_parameters"]
    assert f"2 processes ({'MULTI_CPU' if config == 'ddp' else 'DEEPSPEED'})" in finished.stdout
    assert 0 < result(run)["communication"]["scaling_efficiency"] < 1
    shares = [json.loads(path.read_text()) for path in tmp_path.glob("shares-*.json")]
    assert len(shares) == (2 if hooks else 0)
    whole_size = result(whole)["num_parameters"]
    for share in shares:
        assert share["moments"] == pytest.approx(whole_size, rel=0.1), "two moments of half of the weights"
        assert share["weights"] == pytest.approx(whole_size / (2 if "zero3" in config else 1), rel=0.1)


def test_each_of_1001_examples_is_scored_once(tmp_path: Path) -> None:
    runs = Runs(tmp_path, bert)
    many = write_csv(tmp_path / "many.csv", reviews(1001))
    runs.words += ["--data.validation", many, "--train.max_steps", 1, "--train.eval_batch_size", 16]
    assert runs.alone("whole").returncode == 0
    assert_done(tmp_path / "zero3", runs.two("zero3", "zero3"))
    assert result(tmp_path / "zero3")["num_examples"]["validation"] == 1001
    assert result(tmp_path / "zero3")["metrics"] == pytest.approx(result(tmp_path / "whole")["metrics"], abs=1e-6)


def test_bf16_is_that_of_one_process(runs: Runs) -> None:
    """Autocast over float32 weights under ZeRO, too: the files hold float32, and losses are near those of fp32."""
    finished = runs.two("zero3", "zero3_bf16", environment={"ACCELERATE_MIXED_PRECISION": "bf16"})
    assert_done(runs.folder / "zero3_bf16", finished)
    for record, expected in zip(records(runs.folder / "zero3_bf16"), records(runs.folder / "whole"), strict=True):
        assert record["loss"] == pytest.approx(expected["loss"], abs=0.02)
    weights = load_file(runs.folder / "zero3_bf16" / "model" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}


@pytest.mark.parametrize("config", ["zero1", "zero2", "zero3"])
def test_killed_and_gone_on_with(runs: Runs, config: str) -> None:
    """On as many processes to the bit, as if it had never been killed; on one process to 1e-5."""
    whole = runs.folder / config
    if not whole.exists():
        assert_done(whole, runs.two(config, config))
    killed = runs.two(config, f"{config}_killed", signal_in_training=("SIGKILL", 2 * 6 + 1))
    assert killed.returncode != 0
    shutil.copytree(runs.folder / f"{config}_killed", runs.folder / f"{config}_alone")
    finished = runs.two(config, f"{config}_killed")
    assert_done(runs.folder / f"{config}_killed", finished)
    assert "resumed    from step-000004; 10 steps in all" in finished.stdout
    assert_equal(runs.folder / f"{config}_killed", whole, 0)
    alone = runs.alone(f"{config}_alone")
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert_equal(runs.folder / f"{config}_alone", runs.folder / "whole", 1e-5)


@pytest.mark.parametrize("config", ["zero2", "zero3"])
def test_begun_by_one_process_and_gone_on_with_by_two(runs: Runs, config: str) -> None:
    assert runs.alone(f"{config}_begun", signal_in_training=("SIGKILL", 4 * 6 + 1)).returncode == -9
    finished = runs.two(config, f"{config}_begun")
    assert_done(runs.folder / f"{config}_begun", finished)
    assert "resumed    from step-000004; 10 steps in all" in finished.stdout
    assert_equal(runs.folder / f"{config}_begun", runs.folder / "whole", 1e-5)
