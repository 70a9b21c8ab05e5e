"""Folders in few bits: the same bits from the disk, the head whole, and as small as they should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, BertConfig, GPT2Config, LlamaConfig

from hfscale.compression import find_model, quantize
from hfscale.compression.quantizing import quantized_layers
from hfscale.errors import ModelError
from tests.unit.models.test_adapters import logits

pytest.importorskip("bitsandbytes", reason="needs the extra `quant`")
pytestmark = pytest.mark.filterwarnings("ignore:MatMul8bitLt. inputs will be cast")
SHAPE: dict[str, Any] = {"num_attention_heads": 4, "hidden_size": 64, "intermediate_size": 128}
SHAPE |= {"num_hidden_layers": 2, "vocab_size": 50, "pad_token_id": 0}
SHAPES: dict[str, Any] = {
    "bert": BertConfig(**SHAPE),
    "gpt2": GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=50, n_positions=64, pad_token_id=0),
    "llama": LlamaConfig(**SHAPE, num_key_value_heads=4),
}


def written(config: Any, folder: Path, auto: Any = AutoModelForSequenceClassification) -> Path:
    torch.manual_seed(0)
    auto.from_config(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("architecture", [*SHAPES])
def test_a_quantized_folder_reloads_with_the_same_bits(tmp_path: Path, architecture: str, bits: Any) -> None:
    folder = written(SHAPES[architecture], tmp_path / "whole")
    sizes = quantize(find_model(folder), bits, tmp_path / "few")
    one, other = (AutoModelForSequenceClassification.from_pretrained(tmp_path / "few") for _ in range(2))
    assert torch.equal(logits(one.eval()), logits(other.eval()))
    whole: Any = AutoModelForSequenceClassification.from_pretrained(folder)
    change = (logits(one) - logits(whole)).abs().max()
    assert 0 < change < 0.5 * logits(whole).abs().max()
    head = [name for name, _ in whole.named_children() if name != whole.base_model_prefix]
    layers = quantized_layers(one)
    assert len(layers) == sizes["layers"] and not any(name.startswith(tuple(head)) for name in layers)
    for name, weight in whole.named_parameters():
        if name.rpartition(".")[0] not in layers:  # head, embeddings, norms: to the bit
            assert torch.equal(weight, one.get_parameter(name)), name


@pytest.mark.parametrize(("bits", "most"), [(8, 0.30), (4, 0.18)])
@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_sizes_at_a_hidden_size_of_768(tmp_path: Path, architecture: str, bits: Any, most: float) -> None:
    """Counted here by hand from the file, and asked of bitsandbytes' states, against float32 in the folder before."""
    shape = {"hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 1, "vocab_size": 20}
    shape |= {"intermediate_size": 3072, "pad_token_id": 0}
    config = BertConfig(**shape) if architecture == "bert" else LlamaConfig(**shape, num_key_value_heads=12)
    folder = written(config, tmp_path / "whole")
    sizes = quantize(find_model(folder), bits, tmp_path / "few")

    layers = tuple(f"{name}." for name in quantized_layers(find(tmp_path / "few")))
    assert len(layers) == (6 if architecture == "bert" else 7)
    before, after = (
        sum(each.nbytes for name, each in load_file(path / "model.safetensors").items() if name.startswith(layers))
        for path in (folder, tmp_path / "few")
    )
    assert sizes["float32_bytes"] == before and sizes["disk_bytes"] == after
    assert bits / 32 < sizes["disk_bytes"] / before < most
    assert bits / 32 < sizes["memory_bytes"] / before < most


def find(folder: Path) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(folder)


def test_the_output_layer_of_a_language_model_stays_whole(tmp_path: Path) -> None:
    folder = written(SHAPES["llama"], tmp_path / "whole", AutoModelForCausalLM)
    quantize(find_model(folder), 4, tmp_path / "few")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "few")
    assert len(quantized_layers(model)) == 14 and model.lm_head.weight.dtype == torch.float32


def test_a_model_with_nothing_to_quantize_is_refused(tmp_path: Path) -> None:
    from hfscale.models import RnnConfig, RnnForSequenceClassification

    RnnForSequenceClassification(RnnConfig(vocab_size=20)).save_pretrained(tmp_path / "rnn")
    with pytest.raises(ModelError, match="no linear layer but its head"):
        quantize(find_model(tmp_path / "rnn"), 4, tmp_path / "few")
