"""The recipe on a GPU, in bf16."""

from pathlib import Path

import pytest

from tests.support.commands import FINETUNE_BERT, result, run
from tests.support.tiny import reviews, write_csv, write_tiny_bert

torch = pytest.importorskip("torch")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU, and this machine has none")
def test_bf16(tmp_path: Path) -> None:
    rows = write_csv(tmp_path / "rows.csv", reviews(400))
    words = [
        FINETUNE_BERT,
        "--model.name",
        write_tiny_bert(tmp_path / "bert"),
        "--data.train",
        rows,
        "--optim.lr",
        "3e-3",
    ]
    finished = run(*words, "--train.output_dir", tmp_path / "run", "--train.epochs", "20", "--train.precision", "bf16")
    assert finished.returncode == 0, finished.stderr
    values = result(tmp_path / "run")
    assert values["metrics"]["accuracy"] > values["baselines"]["majority"]["accuracy"] + 0.1
    assert 0 < values["peak_memory_bytes"] < 2**30
