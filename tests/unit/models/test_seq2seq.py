"""Encoder-decoders: new ones of each shape, named ones, adapters on them, and their loss."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from hfscale.data.vocabulary import load_or_train_tokenizer
from hfscale.errors import ModelError, SettingsError
from hfscale.models import LanguageModel, is_seq2seq, load_seq2seq_model, save_language_model, saved_seq2seq_model
from hfscale.models.heads import heads_of
from hfscale.schemas import LoraSettings, QuantSettings, Seq2SeqModelSettings, TextPairSettings, TokenizerSettings
from hfscale.training import seq2seq_loss
from tests.support.pairs import pairs

DATA = TextPairSettings(train="x", max_length=16)
SHAPE: Any = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "dropout": 0.0}
KINDS: Any = ("marian", "t5", "bart")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    import datasets

    rows = [{"text": row["source"], "text_pair": row["target"]} for row in pairs(60)]
    return load_or_train_tokenizer(TokenizerSettings(vocab_size=300), datasets.Dataset.from_list(rows), "seq2seq", 16)


def new(kind: Any, tokenizer: Any, **changed: Any) -> LanguageModel:
    return load_seq2seq_model(Seq2SeqModelSettings(type=kind, **{**SHAPE, **changed}), tokenizer, DATA, 0)


def batch(tokenizer: Any) -> dict[str, Any]:
    read = tokenizer(["one two three", "ten"], padding=True, return_tensors="pt")
    written = tokenizer(["un deux trois", "dix"], padding=True, return_tensors="pt")
    labels = written["input_ids"].masked_fill(written["attention_mask"] == 0, -100)
    return {"input_ids": read["input_ids"], "attention_mask": read["attention_mask"], "labels": labels}


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_transformers_own(tokenizer: Any, kind: Any) -> None:
    model: Any = new(kind, tokenizer).model.eval()
    inputs = batch(tokenizer)
    loss, num_targets = seq2seq_loss(model.config)(model, inputs)
    assert num_targets == int((inputs["labels"] != -100).sum())
    assert float(loss.detach()) / num_targets == pytest.approx(float(model(**inputs).loss.detach()), abs=1e-5)


def test_smoothing_is_that_of_the_formula(tokenizer: Any) -> None:
    model: Any = new("marian", tokenizer).model.eval()
    inputs = batch(tokenizer)
    with torch.no_grad():
        logits = model(**inputs).logits.log_softmax(-1)
        smoothed, _ = seq2seq_loss(model.config, 0.1)(model, inputs)
    is_target = inputs["labels"] != -100
    right = logits[is_target].gather(1, inputs["labels"][is_target][:, None]).sum()
    spread = logits[is_target].mean(-1).sum()
    assert float(smoothed) == pytest.approx(float(-0.9 * right - 0.1 * spread), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(tokenizer: Any, kind: Any) -> None:
    model: Any = new(kind, tokenizer).model.eval()
    inputs = batch(tokenizer)
    with torch.no_grad():
        both, _ = seq2seq_loss(model.config)(model, inputs)
        alone = []
        for row in range(2):
            read, written = inputs["attention_mask"][row].bool(), inputs["labels"][row] != -100
            one = {"input_ids": inputs["input_ids"][row, read], "attention_mask": inputs["attention_mask"][row, read]}
            one["labels"] = inputs["labels"][row, written]
            alone.append(seq2seq_loss(model.config)(model, {key: value[None] for key, value in one.items()})[0])
    assert float(both) == pytest.approx(float(sum(alone)), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_writes_the_same(tokenizer: Any, tmp_path: Path, kind: Any) -> None:
    made = new(kind, tokenizer)
    save_language_model(made, tmp_path / "model")
    assert is_seq2seq(tmp_path / "model")
    again = saved_seq2seq_model(tmp_path / "model", trust_remote_code=False)
    inputs = batch(tokenizer)
    with torch.no_grad():
        assert torch.equal(again.model(**inputs).logits, made.model.eval()(**inputs).logits)
    settings = Seq2SeqModelSettings(name=str(tmp_path / "model"))
    gone_on: Any = load_seq2seq_model(settings, again.tokenizer, DATA, 1).model.eval()
    with torch.no_grad():
        assert torch.equal(gone_on(**inputs).logits, made.model(**inputs).logits)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's own call
@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="needs the extra `peft`")
@pytest.mark.parametrize("bits", [None, 8, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_stands_beside_all_layers_but_the_output(
    tokenizer: Any, tmp_path: Path, kind: Any, bits: Any
) -> None:
    if bits and importlib.util.find_spec("bitsandbytes") is None:
        pytest.skip("needs the extra `quant`")
    save_language_model(new(kind, tokenizer, hidden_size=64), tmp_path / "base")
    settings = Seq2SeqModelSettings(name=str(tmp_path / "base"))
    quant = QuantSettings(bits=bits) if bits else None
    adapted = load_seq2seq_model(settings, tokenizer, DATA, 0, LoraSettings(r=4), quant)
    model: Any = adapted.model
    assert heads_of(model.get_base_model()) == ["lm_head"]
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert all("lora_" in name for name in trained) and not any("lm_head" in name for name in trained)
    for side in ("encoder", "decoder"):
        assert any(f".{side}." in name for name in trained)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * 0.1)
    save_language_model(adapted, tmp_path / "adapter")
    from hfscale.schemas import ModelSettings

    again = saved_seq2seq_model(tmp_path / "adapter", False, ModelSettings(name=str(tmp_path / "base")))
    inputs = batch(tokenizer)
    with torch.no_grad():
        torch.testing.assert_close(again.model(**inputs).logits, model.eval()(**inputs).logits, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's own call
@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="needs the extra `peft`")
@pytest.mark.parametrize(("kind", "scaled"), [("marian", {"k_proj", "v_proj", "fc2"}), ("t5", {"k", "v", "wo"})])
def test_ia3_scales_keys_values_and_what_the_feed_forward_layers_end_with(
    tokenizer: Any, tmp_path: Path, kind: Any, scaled: set[str]
) -> None:
    """Of Marian PEFT doesn't know the layers."""
    save_language_model(new(kind, tokenizer), tmp_path / "base")
    settings = Seq2SeqModelSettings(name=str(tmp_path / "base"))
    model: Any = load_seq2seq_model(settings, tokenizer, DATA, 0, LoraSettings(method="ia3")).model
    factors = {name: weight.shape for name, weight in model.named_parameters() if weight.requires_grad}
    layers = {name.partition(".ia3_l")[0] for name in factors}
    assert {name.rpartition(".")[2] for name in layers} == scaled
    assert len(layers) == 2 * 3 + 2  # three attentions and two feed-forward blocks
    for name, shape in factors.items():  # what a layer puts out has a column, what it takes a row
        assert (shape[1] == 1) == (not name.partition(".ia3_l")[0].endswith((".fc2", ".wo"))), name


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="needs the extra `peft`")
def test_ia3_is_refused_where_keys_are_not_apart_from_queries() -> None:
    from transformers import AutoConfig, AutoModel

    from hfscale.models.adapters import adapter_config

    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    ids = {f"{name}_token_id": 0 for name in ("pad", "eos", "bos", "cls", "sep")}
    config = AutoConfig.for_model("modernbert", **shape, **ids, vocab_size=60)
    with pytest.raises(
        ModelError, match=r"which layers of a modernbert make keys, values and .*; take --lora.method lo"
    ):
        adapter_config(AutoModel.from_config(config), LoraSettings(method="ia3"), [])


def test_shapes_and_lengths_that_can_not_be(tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"--model.hidden_size 32 is not a multiple of --model.num_heads 3"):
        new("marian", tokenizer, num_heads=3)
    save_language_model(new("marian", tokenizer), tmp_path / "model")
    longer = TextPairSettings(train="x", max_length=16, max_target_length=20)
    with pytest.raises(ModelError, match=r"--data.max_target_length 20 is more than the 16 positions"):
        load_seq2seq_model(Seq2SeqModelSettings(name=str(tmp_path / "model")), tokenizer, longer, 0)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's own call
@pytest.mark.parametrize("lora", [False, True])
def test_a_base_made_to_write_otherwise_writes_as_it_is_told(tokenizer: Any, tmp_path: Path, lora: bool) -> None:
    """As BART for summaries comes: beams that end early, a least length, no repeated words."""
    from transformers import GenerationConfig

    from hfscale.models import write_as
    from hfscale.schemas import GenerationSettings, ModelSettings

    if lora:
        pytest.importorskip("peft", reason="needs the extra `peft`")
    save_language_model(new("bart", tokenizer), tmp_path / "base")
    before = GenerationConfig.from_pretrained(tmp_path / "base")
    before.update(num_beams=4, early_stopping=True, min_length=9, no_repeat_ngram_size=3, max_length=142)
    before.save_pretrained(tmp_path / "base")
    adapter = LoraSettings(r=4) if lora else None
    made = load_seq2seq_model(Seq2SeqModelSettings(name=str(tmp_path / "base")), tokenizer, DATA, 0, adapter)
    write_as(made.model, GenerationSettings(num_beams=1), 12)
    save_language_model(made, tmp_path / "model")
    base = ModelSettings(name=str(tmp_path / "base")) if lora else None
    again: Any = saved_seq2seq_model(tmp_path / "model", False, base).model
    config = (again.get_base_model() if lora else again).generation_config
    assert (config.num_beams, config.max_length, config.decoder_start_token_id) == (1, 13, tokenizer.eos_token_id)
    assert not config.min_length and not config.no_repeat_ngram_size and not config.early_stopping


def test_positions_reach_to_what_a_gpu_pads_to(tokenizer: Any) -> None:
    length = TextPairSettings(train="x", max_length=12)
    made: Any = load_seq2seq_model(Seq2SeqModelSettings(type="bart", **SHAPE), tokenizer, length, 0).model
    assert made.config.max_position_embeddings == 16


def test_other_ends_than_the_models_are_refused(tokenizer: Any, tmp_path: Path) -> None:
    made = new("marian", tokenizer)
    made.model.config.eos_token_id = 1
    save_language_model(made, tmp_path / "model")
    with pytest.raises(ModelError, match="another end or padding token than"):
        load_seq2seq_model(Seq2SeqModelSettings(name=str(tmp_path / "model")), tokenizer, DATA, 0)
