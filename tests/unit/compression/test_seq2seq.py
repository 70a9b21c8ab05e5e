"""Encoder-decoders of each architecture, in few bits and with IA3 merged: what plain transformers loads."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from transformers import AutoModelForSeq2SeqLM

from hfscale.compression import compare, find_model, merge, quantize
from hfscale.compression.inputs import find_inputs
from hfscale.compression.kinds import load_model
from hfscale.compression.merging import find_base, load_adapted
from hfscale.compression.quantizing import halve, quantized_layers
from hfscale.models import load_seq2seq_model, save_language_model
from hfscale.schemas import LoraSettings, Seq2SeqModelSettings
from hfscale.schemas.export import ExportSettings
from tests.unit.models.test_adapters import disturb
from tests.unit.models.test_seq2seq import DATA, KINDS, batch, new, tokenizer  # noqa: F401

NEEDS_BITS = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs the extra `quant`")


@NEEDS_BITS
@pytest.mark.filterwarnings("ignore:MatMul8bitLt. inputs will be cast")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [16, 8, 4])
def test_few_bits_are_near_the_model_on_made_up_tokens(
    tokenizer: Any, tmp_path: Path, kind: Any, bits: Any, capsys: Any  # noqa: F811
) -> None:  # fmt: skip
    save_language_model(new(kind, tokenizer, hidden_size=64), tmp_path / "whole")
    saved = find_model(tmp_path / "whole")
    assert saved.kind == "seq2seq"
    if bits == 16:
        halve(saved, tmp_path / "few")
    else:
        layers = quantize(saved, bits, tmp_path / "few")["layers"]
        model: Any = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "few")
        assert 0 < layers == len(quantized_layers(model)) and "lm_head" not in quantized_layers(model)
    accelerator = Accelerator()
    inputs = find_inputs(accelerator, saved, tokenizer, ExportSettings(bits=bits))
    assert "no run's folder is around it" in capsys.readouterr().err
    few = load_model(saved.moved(tmp_path / "few"), dtype="auto")
    found = compare(accelerator, ("one", load_model(saved)), ("other", few), inputs)
    assert 0 < found.mean_change < {16: 0.05, 8: 0.1, 4: 0.5}[bits] and found.metric is None


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's own call
@pytest.mark.parametrize("kind", ["marian", "bart"])
@pytest.mark.parametrize("method", ["lora", "ia3"])
def test_a_merged_adapter_has_the_same_logits(
    tokenizer: Any, tmp_path: Path, kind: Any, method: Any  # noqa: F811
) -> None:  # fmt: skip
    pytest.importorskip("peft", reason="needs the extra `peft`")
    save_language_model(new(kind, tokenizer), tmp_path / "base")
    settings = Seq2SeqModelSettings(name=str(tmp_path / "base"))
    adapted: Any = load_seq2seq_model(settings, tokenizer, DATA, 0, LoraSettings(method=method))
    disturb(adapted.model)
    save_language_model(adapted, tmp_path / "adapter")
    saved = find_model(tmp_path / "adapter")
    merge(load_adapted(saved, find_base(saved, str(tmp_path / "base")))).save_pretrained(tmp_path / "merged")
    merged: Any = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "merged")
    inputs = batch(tokenizer)
    with torch.no_grad():
        expected, found = (model.eval()(**inputs).logits for model in (adapted.model, merged))
        before = load_model(find_model(tmp_path / "base"))(**inputs).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (found - before).abs().max() > 2e-4
