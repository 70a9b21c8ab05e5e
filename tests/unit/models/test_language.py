"""New language models of a given shape, and ones to go on from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hfscale.errors import ModelError, SettingsError
from hfscale.models import (
    LanguageModel,
    load_causal_model,
    load_masked_model,
    load_text_classifier,
    save_language_model,
    save_text_classifier,
)
from hfscale.models.language import load_tokenizer
from hfscale.schemas import CausalModelSettings, MaskedModelSettings, ModelSettings
from tests.support.language import end_tokenizer

MASKED: Any = ("bert", "roberta", "modernbert", "electra")
CAUSAL: Any = ("gpt2", "llama", "qwen3")
SHAPE: dict[str, Any] = {"hidden_size": 32, "num_layers": 2, "num_heads": 2}
LENGTH = 16


def new(kind: Any, tokenizer: Any, seed: int = 0, **changed: Any) -> LanguageModel:
    if kind in MASKED:
        return load_masked_model(MaskedModelSettings(type=kind, **{**SHAPE, **changed}), tokenizer, LENGTH, seed)
    return load_causal_model(CausalModelSettings(type=kind, **{**SHAPE, **changed}), tokenizer, LENGTH, seed)


def masked(name: Path | str, tokenizer: Any, max_length: int = LENGTH) -> LanguageModel:
    return load_masked_model(MaskedModelSettings(name=str(name)), tokenizer, max_length, 0)


@pytest.fixture(scope="module")
def saved(tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a BERT that this module made; not to be changed."""
    folder = tmp_path_factory.mktemp("saved") / "bert"
    save_language_model(new("bert", tiny_tokenizer), folder)
    return folder


def full_row(model: Any, length: int = LENGTH) -> dict[str, torch.Tensor]:
    ids = torch.arange(length).unsqueeze(0) % 20 + 5
    places = torch.arange(length).unsqueeze(0)
    return {"input_ids": ids, "labels": ids.roll(-1, 1), "position_ids": places, "piece_ids": torch.ones_like(ids)}


@pytest.mark.parametrize("kind", MASKED + CAUSAL)
def test_a_new_model_has_the_shape_that_the_settings_give(kind: Any, tiny_tokenizer: Any) -> None:
    tokenizer = tiny_tokenizer if kind in MASKED else end_tokenizer()
    model: Any = new(kind, tokenizer, intermediate_size=40).model
    config = model.config
    assert config.model_type == kind
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (32, 2, 2)
    assert model.get_output_embeddings().weight.shape[0] == len(tokenizer) == config.vocab_size
    sizes = {size for layer in model.modules() if isinstance(layer, nn.Linear) for size in layer.weight.shape}
    assert 40 in sizes or (kind == "gpt2" and config.n_inner == 40)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    for name in ("pad", "bos", "eos"):
        assert getattr(config, f"{name}_token_id") == getattr(tokenizer, f"{name}_token_id")
    expected = LENGTH * torch.tensor(float(len(tokenizer))).log()
    assert model.eval()(**full_row(model)).item() == pytest.approx(expected.item(), rel=0.1), "knows nothing yet"


def test_the_padding_token_may_have_any_number() -> None:
    tokenizer = end_tokenizer()
    tokenizer.cls_token, tokenizer.sep_token, tokenizer.pad_token = "<end>", "<end>", "film"
    assert 5 < tokenizer.pad_token_id < 16
    new("roberta", tokenizer)  # which finds its positions by it


def test_kv_heads_and_untied_embeddings() -> None:
    model: Any = new("llama", end_tokenizer(), num_kv_heads=1).model
    assert model.model.layers[0].self_attn.k_proj.weight.shape == (16, 32)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("kind", MASKED + CAUSAL)
def test_the_seed_draws_the_weights(kind: Any, tiny_tokenizer: Any) -> None:
    tokenizer = tiny_tokenizer if kind in MASKED else end_tokenizer()
    one, again, other = (new(kind, tokenizer, seed).model.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(weight, again[name]) for name, weight in one.items())
    assert any(not torch.equal(weight, other[name]) for name, weight in one.items())


@pytest.mark.parametrize("kind", MASKED + CAUSAL)
def test_dropout_is_what_the_settings_say_and_zero_by_default(kind: Any, tiny_tokenizer: Any) -> None:
    tokenizer = tiny_tokenizer if kind in MASKED else end_tokenizer()
    for dropout, differ in ((None, False), (0.5, True)):
        model = new(kind, tokenizer, dropout=dropout).model.train()
        losses = {model(**full_row(model)).item() for _ in range(3)}
        assert (len(losses) > 1) == differ


@pytest.mark.parametrize("kind", MASKED + CAUSAL)
def test_a_saved_model_is_a_plain_folder_to_go_on_from(kind: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

    tokenizer = tiny_tokenizer if kind in MASKED else end_tokenizer()
    first = new(kind, tokenizer)
    save_language_model(first, tmp_path / "run" / "model")
    auto, load, settings = (
        (AutoModelForMaskedLM, load_masked_model, MaskedModelSettings)
        if kind in MASKED
        else (AutoModelForCausalLM, load_causal_model, CausalModelSettings)
    )
    plain = auto.from_pretrained(tmp_path / "run" / "model").eval()
    ids = full_row(first.model)["input_ids"]
    with torch.no_grad():
        assert torch.equal(plain(input_ids=ids).logits, first.model.eval()(input_ids=ids).logits)
    assert AutoTokenizer.from_pretrained(tmp_path / "run" / "model").get_vocab() == tokenizer.get_vocab()
    for name in ("run", "run/model"):
        given: Any = settings(name=str(tmp_path / name))
        found = load(given, load_tokenizer(given, LENGTH), LENGTH, 1)
        inputs = full_row(first.model)
        assert torch.equal(found.model.eval()(**inputs), first.model.eval()(**inputs))
        assert found.tokenizer.model_max_length == LENGTH


def test_a_head_that_is_missing_is_said(tiny_model: Path, tiny_tokenizer: Any, capsys: pytest.CaptureFixture) -> None:
    masked(tiny_model, tiny_tokenizer)  # a BertModel
    error = capsys.readouterr().err
    assert "holds no MaskedLM head; drawn at random: cls.predictions" in error and error.count("\n") == 1


def test_the_pretrained_encoder_can_be_fine_tuned(saved: Path, tmp_path: Path) -> None:
    settings = ModelSettings(name=str(saved))
    classifier = load_text_classifier(settings, "single_label_classification", ("a", "b"), 0)
    save_text_classifier(classifier, tmp_path / "classifier")
    assert classifier.model.config.num_labels == 2


def refusal(load: Any, *words: Any) -> str:
    with pytest.raises(ModelError) as caught:
        load(*words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "kind, changed, parts",
    [
        ("bert", {"hidden_size": 33}, ["--model.hidden_size 33", "--model.num_heads 2"]),
        ("gpt2", {"num_heads": 5}, ["--model.hidden_size 32", "--model.num_heads 5"]),
        ("llama", {"num_heads": 4, "num_kv_heads": 3}, ["--model.num_heads 4", "--model.num_kv_heads 3"]),
        ("qwen3", {"num_kv_heads": 4}, ["--model.num_heads 2", "--model.num_kv_heads 4"]),
        ("llama", {"hidden_size": 30}, ["--model.hidden_size 30", "--model.num_heads 2", "15"]),
        ("modernbert", {"hidden_size": 6}, ["--model.hidden_size 6", "--model.num_heads 2", "3"]),
    ],
)
def test_a_shape_that_no_model_can_have(
    kind: Any, changed: dict[str, int], parts: list[str], tiny_tokenizer: Any
) -> None:
    with pytest.raises(SettingsError) as caught:
        new(kind, tiny_tokenizer if kind in MASKED else end_tokenizer(), **changed)
    assert all(part in str(caught.value) for part in parts), caught.value


def test_models_that_do_not_fit(saved: Path, tiny_tokenizer: Any, tmp_path: Path) -> None:
    large = end_tokenizer()
    large.add_tokens([f"token{number}" for number in range(50)])
    assert "the tokenizer has 74 tokens" in (message := refusal(masked, saved, large))
    assert "--tokenizer.name" in message
    assert "--data.max_length 17 is more than the 16 positions" in refusal(masked, saved, tiny_tokenizer, 17)
    save_language_model(new("roberta", tiny_tokenizer), tmp_path / "roberta")
    assert "more than the 16 positions" in refusal(masked, tmp_path / "roberta", tiny_tokenizer, 17)
    masked(tmp_path / "roberta", tiny_tokenizer, 16)
    causal = CausalModelSettings(name=str(saved))
    assert "bert" in refusal(load_causal_model, causal, tiny_tokenizer, LENGTH, 0), "an encoder sees what comes next"


def test_folders_that_hold_no_model(saved: Path, tiny_tokenizer: Any, tmp_path: Path) -> None:
    assert "holds no model (no config.json)" in refusal(masked, tmp_path, tiny_tokenizer)
    assert "no such model folder" in refusal(masked, tmp_path / "nowhere", tiny_tokenizer)
    spoilt = Path(shutil.copytree(saved, tmp_path / "spoilt"))
    (spoilt / "model.safetensors").write_bytes(b"not a model")
    assert "its weights are broken" in refusal(masked, spoilt, tiny_tokenizer)
    (spoilt / "model.safetensors").unlink()
    assert "safetensors" in refusal(masked, spoilt, tiny_tokenizer)
    for path in spoilt.glob("token*"):
        path.unlink()
    assert "comes without a tokenizer" in refusal(load_tokenizer, MaskedModelSettings(name=str(spoilt)), LENGTH)
    (spoilt / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    assert "gpt2" in refusal(masked, spoilt, tiny_tokenizer).lower()
