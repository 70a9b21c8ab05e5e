"""A prompt trained on two real processes: the losses and the prompt of one."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.launch.test_zero import STEPS, Runs, assert_done
from tests.support.chat import CHATML, questions, write_json, write_tiny_gpt
from tests.support.commands import records, result

MISSING = [name for name in ("deepspeed", "peft") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
]


def command(folder: Path) -> list[Any]:
    rows = write_json(folder / "rows.json", questions() * 4)
    model = write_tiny_gpt(folder / "gpt", CHATML)
    words = ["finetune_gpt.py", "--model.name", model, "--data.train", rows, "--data.validation", rows]
    words += ["--data.max_length", 120, "--answers.max_new_tokens", 4]
    return [*words, "--lora.method", "prompt", "--lora.tokens", 4]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    made = Runs(tmp_path_factory.mktemp("prompt"), command)
    finished = made.alone("whole")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return made


@pytest.mark.parametrize("config", ["ddp", "zero2"])
def test_the_prompt_of_one_process(runs: Runs, config: str) -> None:
    """Two conversations share a sequence."""
    run, whole = runs.folder / config, runs.folder / "whole"
    assert_done(run, runs.two(config, config))
    assert len(records(run)) == STEPS
    for record, expected in zip(records(run), records(whole), strict=True):
        for name in ("loss", "grad_norm", "eval_loss"):
            assert record.get(name, 0) == pytest.approx(expected.get(name, 0), abs=1e-5)
    assert result(run)["metrics"] == pytest.approx(result(whole)["metrics"], abs=1e-4)
    prompts = [load_file(each / "model" / "adapter_model.safetensors")["prompt_embeddings"] for each in (run, whole)]
    torch.testing.assert_close(prompts[0], prompts[1], atol=1e-5, rtol=0)


def test_shares_of_a_prompt_are_refused(runs: Runs) -> None:
    finished = runs.two("zero3", "zero3")
    errors = {line for line in finished.stderr.splitlines() if "error: " in line}
    assert finished.returncode != 0 and any("prompt does not work under ZeRO stage 3" in line for line in errors)
