"""Adapters beside weights in 8 and 4 bits on a GPU, in bf16."""

import importlib.util
from pathlib import Path

import pytest

from tests.support.commands import FINETUNE_BERT, result, run
from tests.support.tiny import reviews, write_csv, write_tiny_bert

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU, and this machine has none"),
    pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs the extra `quant`"),
]


@pytest.mark.parametrize("bits", [8, 4])
def test_it_learns(tmp_path: Path, bits: int) -> None:
    rows = write_csv(tmp_path / "rows.csv", reviews(400))
    words = [FINETUNE_BERT, "--model.name", write_tiny_bert(tmp_path / "bert"), "--data.train", rows]
    words += ["--quant.bits", bits, "--lora.r", 8, "--optim.lr", "1e-2", "--train.precision", "bf16"]
    finished = run(*words, "--train.output_dir", tmp_path / "run", "--train.epochs", 20)
    assert finished.returncode == 0, finished.stderr
    values = result(tmp_path / "run")
    assert values["metrics"]["accuracy"] > values["baselines"]["majority"]["accuracy"] + 0.1
