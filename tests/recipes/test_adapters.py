"""Runs with an adapter: killed and gone on with, with the same bits; predicted with; refused without."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hfscale.cli import main
from hfscale.models import saved_text_classifier
from hfscale.schemas import ModelSettings
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


CARDS = {
    "lora": ("--lora.r", 4),
    "8 bits": ("--lora.r", 4, "--quant.bits", 8),
    "4 bits (nf4, double quantization)": ("--lora.method", "ia3", "--quant.bits", 4),
}


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's own call
@pytest.mark.parametrize("bits", ["lora", *(pytest.param(kind, marks=NEEDS_BITS) for kind in [*CARDS][1:])])
def test_the_card_loads_it_and_no_path_of_this_machine_is_told(tmp_path: Path, bits: str, capsys: Any) -> None:
    run, moved = tmp_path / "run", tmp_path / "moved"
    given = words(tmp_path, *CARDS[bits], "--train.max_steps", 4, "--train.output_dir", run)
    done = WarmRun(tuple(given), tmp_path / "log", {}).wait()
    assert done.returncode == 0, done.stdout + done.stderr
    published = [run / "model", *run.glob("checkpoints/best-*")]
    assert len(published) > 1
    for file in (file for folder in published for file in folder.iterdir()):
        assert str(tmp_path).encode() not in file.read_bytes(), file

    card = (run / "model" / "README.md").read_text()
    assert "a local folder `bert`" in card and (bits == "lora" or card.count(bits) == 2)
    code = card.split("```python\n")[1].split("```")[0]
    code = code.replace("PATH_OR_HUB_ID", str(run / "model")).replace("PATH_OF_BASE", str(tmp_path / "bert"))
    found: dict[str, Any] = {}
    exec(code, found)
    ids = torch.tensor([[2, 8, 17, 21, 3]])
    mask = torch.ones_like(ids)
    with torch.no_grad():
        by_card = found["model"](input_ids=ids, attention_mask=mask).logits
        base = ModelSettings(name=str(tmp_path / "bert"))
        ours: Any = saved_text_classifier(run / "model", base=base).model
        torch.testing.assert_close(by_card, ours(input_ids=ids, attention_mask=mask).logits, atol=1e-6, rtol=0)

    def predicted(*more: Any) -> str:
        capsys.readouterr()
        main(["predict", *map(str, more), "--text", "a fine film"])
        return capsys.readouterr().out

    (run / "model").rename(moved)
    with pytest.raises(SystemExit) as refused:
        predicted(moved)
    assert refused.value.code == 2 and "local folder bert; give that folder with --base" in capsys.readouterr().err
    by_hand = predicted(moved, "--base", tmp_path / "bert")
    moved.rename(run / "model")
    assert predicted(run) == predicted(run / "model") == by_hand


def test_quantized_weights_without_an_adapter_are_refused(tmp_path: Path) -> None:
    run = WarmRun((*words(tmp_path, "--quant.bits", 4), "--train.output_dir", tmp_path / "run"), tmp_path / "log", {})
    ended = run.wait()
    assert ended.returncode == 2 and "add an adapter, as in --lora.r 8" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1 and not (tmp_path / "run").exists()
