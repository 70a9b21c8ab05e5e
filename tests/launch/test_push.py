"""Two processes, sharded or not: one of them pushes, the other doesn't wait for it, and the weights are whole."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load

from tests.support.commands import ROOT, free_port, result
from tests.support.hub import TOKEN, LoopbackHub
from tests.support.tiny import reviews, write_csv, write_tiny_bert

NEEDS_DEEPSPEED = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="needs the extra `deepspeed`"
)


def launched(folder: Path, config: str, hooks: dict[str, Any]) -> Any:
    rows, model = write_csv(folder / "rows.csv", reviews(40)), write_tiny_bert(folder / "bert")
    words = [sys.executable, "-m", "accelerate.commands.launch", "-q", "--main_process_port", free_port()]
    words += ["--config_file", ROOT / "accelerate_configs" / f"{config}.yaml", "-m", "tests.support.hooks"]
    words += [json.dumps(hooks), ROOT / "recipes" / "finetune_bert.py", "--model.name", model, "--data.train", rows]
    words += ["--train.max_steps", 3, "--baselines", "false", "--train.output_dir", folder / "run"]
    words += ["--hub.repo_id", "alice/reviews"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(list(map(str, words)), cwd=ROOT, env=environ, capture_output=True, text=True, timeout=280)


@pytest.mark.slow
@pytest.mark.parametrize("config", ["ddp", pytest.param("zero3", marks=NEEDS_DEEPSPEED)])
def test_one_process_pushes_whole_weights(tmp_path: Path, config: str) -> None:
    with LoopbackHub() as hub:
        hub.fail("POST", "/commit/main", 1, status=503)  # the wait for a second try is nobody else's
        hooks = {
            "hub": hub.environment(TOKEN, tmp_path / "cache"),
            **({"gather_small_weights": ""} if config == "zero3" else {}),
        }
        done = launched(tmp_path, config, hooks)
        assert result(tmp_path / "run")["complete"], done.stdout + done.stderr
        assert result(tmp_path / "run")["num_processes"] == 2
        assert done.stdout.count("pushed     alice/reviews") == 1, done.stdout + done.stderr
        assert hub.count("GET", "/api/whoami-v2") == hub.repos["alice/reviews"].commits == 1
        assert hub.count("POST", "/api/repos/create") == 2
        weights = hub.files("alice/reviews")["model.safetensors"]
    assert weights == (tmp_path / "run" / "model" / "model.safetensors").read_bytes()
    assert sum(tensor.numel() for tensor in load(weights).values()) == result(tmp_path / "run")["num_parameters"]


@pytest.mark.slow
def test_a_refusal_ends_all_processes(tmp_path: Path) -> None:
    with LoopbackHub() as hub:
        done = launched(tmp_path, "ddp", {"hub": hub.environment(None, tmp_path / "cache")})
    assert done.returncode and done.stderr.count("there is no token to push with") == 1, done.stderr
    assert not (tmp_path / "run").exists()
