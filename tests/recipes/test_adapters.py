"""Runs with an adapter: killed and gone on with, with the same bits; predicted with; refused without."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support.commands import ROOT, result
from tests.support.tiny import reviews, write_csv, write_tiny_bert
from tests.support.warm import WarmRun

pytest.importorskip("peft", reason="needs the extra `peft`")
NEEDS_BITS = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs the extra `quant`")
KINDS = {
    "lora": ("--lora.method", "dora", "--lora.r", 4, "--lora.dropout", 0.1),
    "qlora": ("--lora.r", 4, "--quant.bits", 4, "--optim.name", "adamw8bit"),
}


def words(folder: Path, *more: Any) -> list[Any]:
    rows = write_csv(folder / "rows.csv", reviews(50))
    model = write_tiny_bert(folder / "bert")
    given = [ROOT / "recipes" / "finetune_bert.py", "--model.name", model, "--data.train", rows]
    given += ["--data.validation", rows, "--baselines", "false", "--train.max_steps", 9, "--train.eval_steps", 3]
    given += ["--train.global_batch_size", 8, "--train.micro_batch_size", 4, "--train.save_steps", 2]
    return [*given, "--optim.lr", "5e-3", *more]


@pytest.mark.parametrize("kind", ["lora", pytest.param("qlora", marks=NEEDS_BITS)])
def test_killed_and_gone_on_with_it_ends_with_the_same_bits(tmp_path: Path, kind: str) -> None:
    given = words(tmp_path, *KINDS[kind])

    def run(name: str, **hooks: Any) -> Any:
        log = tmp_path / f"log{len(list(tmp_path.iterdir()))}"
        return WarmRun((*given, "--train.output_dir", tmp_path / name), log, hooks).wait()

    whole = run("whole")
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert run("killed", signal_in_training=("SIGKILL", 11)).returncode == -9
    finished = run("killed")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "resumed    from step-000004" in finished.stdout
    one, other = (load_file(tmp_path / name / "model" / "adapter_model.safetensors") for name in ("whole", "killed"))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    results = [result(tmp_path / name) for name in ("whole", "killed")]
    assert results[0]["metrics"] == results[1]["metrics"]
    assert 0 < results[0]["num_trained_parameters"] < results[0]["num_parameters"] / 2
    frozen = "base_model.model.bert.embeddings.word_embeddings.weight"
    assert frozen not in load_file(tmp_path / "whole" / "checkpoints" / "step-000008" / "model.safetensors")


def test_quantized_weights_without_an_adapter_are_refused(tmp_path: Path) -> None:
    run = WarmRun((*words(tmp_path, "--quant.bits", 4), "--train.output_dir", tmp_path / "run"), tmp_path / "log", {})
    ended = run.wait()
    assert ended.returncode == 2 and "add an adapter, as in --lora.r 8" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1 and not (tmp_path / "run").exists()
