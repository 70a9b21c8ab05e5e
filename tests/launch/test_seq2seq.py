"""An encoder-decoder on two real processes: the losses of one, and every held-out text written once."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tests.launch.test_zero import STEPS, Runs, assert_done
from tests.support.commands import records, result
from tests.support.pairs import pairs, write_parallel

MISSING = [name for name in ("deepspeed", "sacrebleu") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
]


def command(folder: Path) -> list[Any]:
    rows = pairs(40, longest=4)
    words = ["finetune_seq2seq.py", "--data.train", write_parallel(folder, rows), "--data.max_length", 12]
    words += ["--data.validation", write_parallel(folder, rows[:11], "val"), "--train.eval_batch_size", 3]
    words += ["--model.hidden_size", 32, "--model.num_layers", 1]
    return [*words, "--model.num_heads", 2, "--model.dropout", 0.0, "--tokenizer.vocab_size", 340]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    made = Runs(tmp_path_factory.mktemp("seq2seq"), command)
    finished = made.alone("whole")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return made


@pytest.mark.parametrize("config", ["ddp", "zero3"])
def test_the_losses_of_one_process(runs: Runs, config: str) -> None:
    assert_done(runs.folder / config, runs.two(config, config))
    for record, expected in zip(records(runs.folder / config), records(runs.folder / "whole"), strict=True):
        assert record["loss"] == pytest.approx(expected["loss"], abs=1e-5)
    assert len(records(runs.folder / config)) == STEPS
    metrics, expected = (result(runs.folder / name)["metrics"] for name in (config, "whole"))
    assert metrics == pytest.approx(expected, abs=1e-3)
