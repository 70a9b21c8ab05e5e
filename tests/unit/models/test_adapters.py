"""Adapters: what is trained, what is refused, and that PEFT loads the folder with the same logits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from hfscale.config import parse_config
from hfscale.errors import ModelError, SettingsError
from hfscale.models import load_text_classifier, save_text_classifier, saved_text_classifier
from hfscale.models.adapters import note_base
from hfscale.schemas import LoraSettings, ModelSettings, OptimSettings
from hfscale.training import build_optimizer
from hfscale.training.state import adapter_names, estimated_bytes

peft = pytest.importorskip("peft", reason="needs the extra `peft`")

SINGLE: Any = "single_label_classification"
METHODS: list[Any] = ["lora", "rslora", "dora", "pissa", "ia3"]
LABELS = ("a", "b", "c")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of a recipe."""

    lora: LoraSettings | None = None


@pytest.fixture(scope="module")
def folders(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny base model of each architecture, all with the same tokenizer."""
    from transformers import AutoTokenizer, GPT2Config, GPT2Model, LlamaConfig, LlamaModel

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    size = len(tokenizer)
    torch.manual_seed(0)
    made = {
        "gpt2": GPT2Model(GPT2Config(vocab_size=size, n_positions=64, n_embd=32, n_layer=2, n_head=2)),
        "llama": LlamaModel(
            LlamaConfig(
                vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                max_position_embeddings=64,
            )
        ),
    }  # fmt: skip
    found = {"bert": tiny_model}
    for name, model in made.items():
        found[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(found[name])
        tokenizer.save_pretrained(found[name])
    return found


def load(folder: Path, **changed: Any) -> Any:
    return load_text_classifier(ModelSettings(name=str(folder)), SINGLE, LABELS, 0, LoraSettings(**changed))


def saved(adapter: Path, base: Path) -> Any:
    return saved_text_classifier(adapter, base=ModelSettings(name=str(base)))


def disturb(model: Any) -> None:
    """Other trained weights than an adapter begins with, which change nothing."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)


def logits(model: Any) -> torch.Tensor:
    ids = torch.arange(5, 17).view(2, 6)
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's own call
@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("method", METHODS)
def test_a_saved_adapter_has_the_same_logits(
    folders: dict[str, Path], tmp_path: Path, architecture: str, method: Any
) -> None:
    classifier = load(folders[architecture], method=method)
    model: Any = classifier.model.eval()
    before = logits(model)
    disturb(model)
    expected = logits(model)
    assert not torch.allclose(before, expected, atol=1e-3)
    save_text_classifier(classifier, tmp_path / "adapter")
    assert not (tmp_path / "adapter" / "model.safetensors").exists()

    again = saved(tmp_path / "adapter", folders[architecture])
    torch.testing.assert_close(logits(again.model), expected, atol=1e-5, rtol=0)
    assert again.model.config.id2label == dict(enumerate(LABELS))

    base = AutoModelForSequenceClassification.from_pretrained(folders[architecture], num_labels=3, pad_token_id=0)
    with_peft = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")
    torch.testing.assert_close(logits(with_peft.eval()), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_every_trained_weight_is_in_the_file_by_a_known_name(
    folders: dict[str, Path], tmp_path: Path, method: Any
) -> None:
    classifier = load(folders["bert"], method=method)
    save_text_classifier(classifier, tmp_path / "adapter")
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    names = adapter_names(classifier.model)
    assert names.keys() == weights.keys()
    parameters = dict(classifier.model.named_parameters())
    assert all(torch.equal(parameters[names[key]], weight) for key, weight in weights.items())


def test_the_encoder_is_frozen_and_the_head_is_trained(folders: dict[str, Path], capsys: Any) -> None:
    model = load(folders["bert"]).model
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name or "modules_to_save" in name for name in trained)
    assert any("classifier.modules_to_save" in name for name in trained)
    number = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert f"lora, {number:,} of " in capsys.readouterr().out


def test_what_was_drawn_is_trained_and_saved(folders: dict[str, Path], tmp_path: Path) -> None:
    """A pooler that the files lack is random: who loads the adapter would draw another."""
    from transformers import BertModel

    BertModel.from_pretrained(folders["bert"], add_pooling_layer=False).save_pretrained(tmp_path / "bare")
    for file in folders["bert"].glob("token*"):
        (tmp_path / "bare" / file.name).write_bytes(file.read_bytes())
    classifier = load(tmp_path / "bare")
    expected = logits(classifier.model.eval())
    save_text_classifier(classifier, tmp_path / "adapter")
    torch.manual_seed(99)
    torch.testing.assert_close(logits(saved(tmp_path / "adapter", tmp_path / "bare").model), expected)


def test_an_unknown_target_is_refused_with_those_there_are(folders: dict[str, Path]) -> None:
    with pytest.raises(SettingsError, match=r"no linear layer querry; did you mean .*query.*; there are .*value"):
        load(folders["bert"], targets=["querry"])


def test_targets_are_the_only_layers_adapted(folders: dict[str, Path]) -> None:
    model = load(folders["bert"], targets=["query"]).model
    adapted = [name for name, parameter in model.named_parameters() if "lora_A" in name]
    assert len(adapted) == 2 and all(".query." in name for name in adapted)


def test_a_kind_that_is_the_end_of_another_is_chosen_alone(folders: dict[str, Path]) -> None:
    model = load(folders["bert"], r=4, targets=["output.dense"]).model
    adapted = {
        name.removesuffix(".lora_A") for name, _ in model.named_modules() if name.endswith("output.dense.lora_A")
    }
    assert adapted and not any("attention" in name for name in adapted)


def test_a_rank_larger_than_a_layer_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(SettingsError, match=r"--lora.r 33 is more than layer .* can have, 32"):
        load(folders["bert"], r=33)


def test_an_adapter_is_no_model_to_start_from(folders: dict[str, Path], tmp_path: Path) -> None:
    save_text_classifier(load(folders["bert"]), tmp_path / "adapter")
    with pytest.raises(ModelError, match="holds an adapter"):
        load(tmp_path / "adapter")


def test_an_adapter_for_another_base_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    save_text_classifier(load(folders["bert"]), tmp_path / "adapter")
    with pytest.raises(ModelError, match="gone is no folder here; give it with --base"):
        saved(tmp_path / "adapter", tmp_path / "gone")
    with pytest.raises(ModelError, match=f"was trained on {folders['bert'].name}, not on"):
        saved(tmp_path / "adapter", folders["llama"])


def test_the_base_is_called_by_its_hub_id_or_its_folders_name(folders: dict[str, Path], tmp_path: Path) -> None:
    classifier = load(folders["bert"])
    save_text_classifier(classifier, tmp_path / "adapter")
    content = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert content["base_model_name_or_path"] == folders["bert"].name
    with pytest.raises(ModelError, match=f"local folder {folders['bert'].name}; give that folder with --base"):
        saved_text_classifier(tmp_path / "adapter")
    model: Any = load(folders["bert"]).model.get_base_model()
    assert note_base(model, ModelSettings(name="org/name")) == "org/name"
    assert note_base(model, ModelSettings(name="builtin:minilm")) == "sentence-transformers/all-MiniLM-L6-v2"


def test_the_task_is_known_without_the_base(folders: dict[str, Path], tmp_path: Path) -> None:
    tagger = load_text_classifier(
        ModelSettings(name=str(folders["bert"])), "token_classification", LABELS, 0, LoraSettings()
    )
    save_text_classifier(tagger, tmp_path / "adapter")
    assert saved(tmp_path / "adapter", folders["bert"]).task == "token_classification"


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"r": 0}, "at least 1"),
        ({"method": "ia3", "r": 8}, "no effect"),
        ({"targets": []}, "empty"),
        ({"method": "prompt", "tokens": 0}, "tokens must be at least 1"),
        ({"method": "prompt", "targets": ["query"]}, "targets has no effect with --lora.method prompt"),
        ({"tokens": 20}, "tokens has no effect with --lora.method lora"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        LoraSettings(**given)


def test_prefix_tuning_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"lora.method must be one of .*prompt.*, got prefix"):
        parse_config(Settings, ["--lora.method", "prefix"])


def test_a_base_of_the_same_name_and_another_shape_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    """PEFT would put the adapter into its first layers without a word."""
    from transformers import AutoConfig, AutoTokenizer

    classifier = load(folders["bert"], r=4)
    save_text_classifier(classifier, tmp_path / "adapter")
    deeper = tmp_path / "deeper" / folders["bert"].name
    config = AutoConfig.from_pretrained(folders["bert"], num_hidden_layers=4)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(deeper)
    AutoTokenizer.from_pretrained(folders["bert"]).save_pretrained(deeper)
    with pytest.raises(ModelError, match="was trained on another model than"):
        saved(tmp_path / "adapter", deeper)
    deeper.rename(tmp_path / "other")
    with pytest.raises(ModelError, match=f"was trained on {folders['bert'].name}, not on .*other"):
        saved(tmp_path / "adapter", tmp_path / "other")
    with pytest.raises(ModelError, match="nowhere/else is no folder here; give it with --base"):
        saved(tmp_path / "adapter", Path("nowhere/else"))


def test_a_torn_adapter_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    save_text_classifier(load(folders["bert"], r=4), tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").rename(tmp_path / "weights")
    with pytest.raises(ModelError, match=r"holds no adapter_model\.safetensors"):
        saved(tmp_path / "adapter", folders["bert"])
    (tmp_path / "adapter" / "adapter_config.json").write_text("[]")
    with pytest.raises(ModelError, match="can't be read as an adapter's settings"):
        saved(tmp_path / "adapter", folders["bert"])
    with pytest.raises(ModelError, match="does not say which model"):
        saved_text_classifier(tmp_path / "adapter")


def test_the_factors_of_ia3_are_not_decayed(folders: dict[str, Path]) -> None:
    """They begin at 1, and 0 would switch their activations off."""
    model = load(folders["bert"], method="ia3").model
    optimizer = build_optimizer(model, OptimSettings(lr=1e-3, weight_decay=0.1))
    decayed = {id(each) for group in optimizer.param_groups if group["weight_decay"] for each in group["params"]}
    factors = [
        parameter for name, parameter in model.named_parameters() if ".ia3_" in name and parameter.requires_grad
    ]
    assert factors and decayed and not any(id(each) in decayed for each in factors)


def test_of_a_saved_adapter_only_what_is_trained_takes_room(folders: dict[str, Path], tmp_path: Path) -> None:
    classifier = load(folders["bert"], r=4)
    save_text_classifier(classifier, tmp_path / "adapter")
    size, _ = estimated_bytes(classifier.model, build_optimizer(classifier.model, OptimSettings(lr=1e-3)))
    on_disk = (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size
    assert size <= on_disk < size + 10_000  # and the file's own table of contents
