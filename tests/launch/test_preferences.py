"""Preferences learned on two real processes: the losses and metrics of one."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tests.launch.test_zero import STEPS, Runs, assert_done
from tests.recipes.test_align_gpt import pairs
from tests.support.chat import CHATML, write_json, write_tiny_gpt
from tests.support.commands import records, result

MISSING = [name for name in ("deepspeed", "peft") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
]


def command(folder: Path) -> list[Any]:
    rows = write_json(folder / "pairs.json", pairs() * 4)
    model = write_tiny_gpt(folder / "gpt", CHATML)
    words = ["align_gpt.py", "--model.name", model, "--data.train", rows, "--data.validation", rows]
    return [*words, "--data.max_length", 64, "--lora.r", 4]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    made = Runs(tmp_path_factory.mktemp("preferences"), command)
    finished = made.alone("whole")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return made


@pytest.mark.parametrize("config", ["ddp", "zero2", "zero3"])
def test_the_losses_of_one_process(runs: Runs, config: str) -> None:
    """The model without its adapter is asked in every step, whatever shares the weights out."""
    assert_done(runs.folder / config, runs.two(config, config))
    for record, expected in zip(records(runs.folder / config), records(runs.folder / "whole"), strict=True):
        assert record["loss"] == pytest.approx(expected["loss"], abs=1e-5)
    assert len(records(runs.folder / config)) == STEPS
    metrics, expected = (result(runs.folder / name)["metrics"] for name in (config, "whole"))
    assert metrics == pytest.approx(expected, abs=1e-4)
    assert metrics["margin"] > 0.1
