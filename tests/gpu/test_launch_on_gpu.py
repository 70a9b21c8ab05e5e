"""Every launcher configuration on one GPU, in bf16, against the plain run of the same command."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import ROOT, records, result, run
from tests.support.language import sentences, write_lines

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU, and this machine has none"),
]
CONFIGS = ("ddp", "zero1", "zero2", "zero3", "zero3_offload", "fsdp2")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    text = write_lines(tmp_path_factory.mktemp("text") / "lines.txt", sentences(400))
    words = [ROOT / "recipes" / "pretrain_gpt.py", "--data.train", text, "--data.documents", "line"]
    words += ["--model.hidden_size", "64", "--model.num_layers", "2", "--tokenizer.vocab_size", "300"]
    words += ["--data.max_length", "64", "--optim.lr", "1e-3", "--train.max_steps", "20", "--train.log_steps", "1"]
    return [*words, "--train.global_batch_size", "8", "--train.micro_batch_size", "4", "--train.precision", "bf16"]


@pytest.fixture(scope="module")
def plain(words: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "run"
    finished = run(*words, "--train.output_dir", folder)
    assert finished.returncode == 0, finished.stderr
    return folder


@pytest.mark.parametrize("config", CONFIGS)
def test_the_same_losses(words: list[Any], plain: Path, tmp_path: Path, config: str) -> None:
    if config.startswith("zero") and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("needs the extra `deepspeed`")
    command = [sys.executable, "-m", "accelerate.commands.launch", "-q", "--num_processes", "1", "--config_file"]
    command += [ROOT / "accelerate_configs" / f"{config}.yaml", *words, "--train.output_dir", tmp_path / "run"]
    finished = subprocess.run(
        [str(word) for word in command], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=280
    )
    assert (tmp_path / "run" / "result.json").exists(), finished.stdout + finished.stderr
    for record, expected in zip(records(tmp_path / "run"), records(plain), strict=True):
        assert record["loss"] == pytest.approx(expected["loss"], rel=0.02)
    assert result(tmp_path / "run")["metrics"]["loss"] == pytest.approx(result(plain)["metrics"]["loss"], rel=0.02)
