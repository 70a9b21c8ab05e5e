"""A run's adapter, merged and in few bits by `hfscale export`: what plain transformers loads of it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hfscale.cli import main
from hfscale.compression.choosing import Choice, place
from hfscale.compression.kinds import find_model
from hfscale.compression.variants import Variant
from hfscale.models import saved_text_classifier
from hfscale.schemas import ModelSettings
from tests.recipes.test_adapters import words
from tests.support.tiny import reviews
from tests.support.warm import warm_run

pytest.importorskip("peft", reason="needs the extra `peft`")
NEEDS_BITS = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs the extra `quant`")
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's own


def trained(folder: Path, *more: Any) -> Path:
    run = folder / "run"
    done = warm_run(*words(folder, "--lora.r", 4, *more, "--train.max_steps", 6, "--train.output_dir", run))
    assert done.returncode == 0, done.stdout + done.stderr
    return run


def export(capsys: Any, *given: Any) -> str:
    capsys.readouterr()
    main(["export", *map(str, given)])
    return capsys.readouterr().out


def refused(capsys: Any, *given: Any) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["export", *map(str, given)])
    line = capsys.readouterr().err
    assert ended.value.code == 2 and line.startswith("error: ") and line.count("\n") == 1, line
    return line


def logits(model: Any, folder: Path) -> torch.Tensor:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer([row["text"] for row in reviews(20)], padding=True, return_tensors="pt")
    with torch.no_grad():
        return model.eval()(**inputs).logits


@NEEDS_BITS
def test_merged_and_then_in_four_bits(tmp_path: Path, capsys: Any) -> None:
    run = trained(tmp_path)
    base = ModelSettings(name=str(tmp_path / "bert"))
    with_adapter = logits(saved_text_classifier(run / "model", base=base).model, run / "model")
    before = sorted(run.rglob("*"))
    line = refused(capsys, run, "--merge", "--tolerance", 0)
    assert "bert with its adapter -> merged: logits change by" in line and "--tolerance 0 allows" in line
    assert "add --merge" in refused(capsys, run, "--bits", 4)
    assert "was trained on bert, not on someone/else" in refused(capsys, run, "--merge", "--base", "someone/else")
    assert sorted(run.rglob("*")) == before

    said = export(capsys, run, "--merge")
    merged = run / "model-merged"
    assert "(50 validation examples of rows.csv)" in said and f"saved      {merged}" in said
    plain = AutoModelForSequenceClassification.from_pretrained(merged)
    torch.testing.assert_close(logits(plain, merged), with_adapter, atol=1e-5, rtol=0)
    assert plain.config.label2id == {"negative": 0, "positive": 1}
    exported = json.loads((merged / "export.json").read_text())
    (found,) = exported["comparisons"]
    assert exported["merged_into"] == "bert" and 0 < found["largest_change"] < 1e-5
    assert found["metric"] == "accuracy" and found["metric_before"] == found["metric_after"]
    card = (merged / "README.md").read_text()
    assert "library_name: transformers" in card and "PeftModel" not in card and card.count("## Use") == 1
    assert "merged into bert, in float32" in card and 'pipeline("text-classification"' in card
    assert "there is no adapter in" in refused(capsys, merged, "--merge")
    assert place(Choice(Variant("merged", tmp_path / "removed")), find_model(run)) == merged  # compress names it

    export(capsys, run, "--merge", "--bits", 4, "--tolerance", 1, "--output", tmp_path / "few")
    exported = json.loads((tmp_path / "few" / "export.json").read_text())
    assert [found["after"] for found in exported["comparisons"]] == ["merged", "4 bits"]
    assert sorted(path.name for path in (tmp_path / "few").iterdir() if path.is_dir()) == []
    few = AutoModelForSequenceClassification.from_pretrained(tmp_path / "few")
    assert few.config.quantization_config.load_in_4bit and few.classifier.weight.dtype == torch.float32
    change = (logits(few, merged) - with_adapter).abs().max()
    assert 0 < change < with_adapter.abs().max()
    for file in (each for folder in (merged, tmp_path / "few") for each in folder.iterdir()):
        assert str(tmp_path).encode() not in file.read_bytes(), file
    capsys.readouterr()
    main(["predict", str(tmp_path / "few"), "--text", "a fine film"])
    assert json.loads(capsys.readouterr().out)["label"] in ("negative", "positive")


@NEEDS_BITS
def test_an_adapter_trained_on_four_bits_goes_into_the_full_precision_model(tmp_path: Path, capsys: Any) -> None:
    run = trained(tmp_path, "--quant.bits", 4)
    export(capsys, run, "--merge", "--tolerance", 0.5)
    exported = json.loads((run / "model-merged" / "export.json").read_text())
    rounding, change = exported["comparisons"]
    assert rounding["before"] == "bert with its adapter" and rounding["largest_change"] < 1e-5
    assert change["before"] == "bert in 4 bits with its adapter" and change["largest_change"] > 1e-3
    plain = AutoModelForSequenceClassification.from_pretrained(run / "model-merged")
    assert not hasattr(plain.config, "quantization_config") and plain.dtype == torch.float32
    as_trained = saved_text_classifier(run / "model", base=ModelSettings(name=str(tmp_path / "bert"))).model
    difference = (logits(plain, run / "model") - logits(as_trained, run / "model")).abs().max()
    assert float(difference) == pytest.approx(change["largest_difference"], rel=1)
