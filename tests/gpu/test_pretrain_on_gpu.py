"""The pretraining recipes and the CNN on a GPU, in bf16."""

from pathlib import Path

import pytest

from tests.support.commands import ROOT, records, result, run
from tests.support.language import sentences, write_lines

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU, and this machine has none"),
]

SHAPE = ["--model.hidden_size", "64", "--model.num_layers", "2", "--tokenizer.vocab_size", "300"]
SPEED = ["--optim.lr", "1e-2", "--train.max_steps", "60", "--train.precision", "bf16", "--train.log_steps", "1"]


@pytest.mark.parametrize("name", ["bert", "gpt"])
def test_language_models(tmp_path: Path, name: str) -> None:
    text = write_lines(tmp_path / "lines.txt", sentences(400))
    words = [ROOT / "recipes" / f"pretrain_{name}.py", "--data.train", text, "--data.documents", "line", *SHAPE]
    finished = run(*words, "--data.max_length", "64", "--train.output_dir", tmp_path / "run", *SPEED)
    assert finished.returncode == 0, finished.stderr
    losses = [record["loss"] for record in records(tmp_path / "run")]
    assert losses[-1] < losses[0] - 1
    assert 0 < result(tmp_path / "run")["peak_memory_bytes"] < 2**30


def test_cnn(tmp_path: Path) -> None:
    words = [ROOT / "recipes" / "train_cnn.py", "--train.output_dir", tmp_path / "run", "--train.precision", "bf16"]
    finished = run(*words)
    assert finished.returncode == 0, finished.stderr
    assert result(tmp_path / "run")["metrics"]["accuracy"] > 0.95
