"""A merged model computes what base and adapter did, and an adapter finds no other base than its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, GPT2Config
from transformers import GPT2LMHeadModel as Gpt2

from hfscale.compression import find_model, merge
from hfscale.compression.merging import find_base, load_adapted
from hfscale.errors import ModelError, SettingsError
from hfscale.models import save_text_classifier
from hfscale.schemas import ModelSettings
from tests.unit.models.test_adapters import disturb, folders, load, logits  # noqa: F401

peft = pytest.importorskip("peft", reason="needs the extra `peft`")

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's own


def adapter_for(base: Path, folder: Path, **settings: Any) -> Path:
    """A trained one, as far as a test can tell."""
    classifier = load(base, **settings)
    disturb(classifier.model)
    save_text_classifier(classifier, folder)
    return folder


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("method", ["lora", "dora", "ia3"])
def test_the_merged_folder_has_the_logits_of_base_and_adapter(
    folders: dict[str, Path], tmp_path: Path, architecture: str, method: Any  # noqa: F811
) -> None:  # fmt: skip
    base = folders[architecture]
    folder = adapter_for(base, tmp_path / "adapter", method=method)
    plain = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3, pad_token_id=0)
    by_peft: Any = peft.PeftModel.from_pretrained(plain, folder).eval()
    expected = logits(by_peft)

    saved = find_model(folder)
    model = merge(load_adapted(saved, find_base(saved, str(base))))
    torch.testing.assert_close(logits(model.eval()), expected, atol=1e-5, rtol=0)
    model.save_pretrained(tmp_path / "merged")
    again, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    torch.testing.assert_close(logits(again), expected, atol=1e-5, rtol=0)
    assert again.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert "hfscale" not in (tmp_path / "merged" / "config.json").read_text()


def test_a_language_model_with_shared_embeddings(tmp_path: Path) -> None:
    torch.manual_seed(0)
    Gpt2(GPT2Config(vocab_size=50, n_positions=32, n_embd=32, n_layer=2, n_head=2)).save_pretrained(tmp_path / "gpt")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "gpt")
    settings = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)
    adapted: Any = peft.get_peft_model(base, settings).eval()
    disturb(adapted)
    expected = logits(adapted)
    adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    with pytest.raises(ModelError, match=r"holds no model \(no config.json\); PEFT's own"):
        find_model(tmp_path / "adapter")
    shutil.copy(tmp_path / "gpt" / "config.json", tmp_path / "adapter")
    saved = find_model(tmp_path / "adapter")
    merge(load_adapted(saved, find_base(saved, str(tmp_path / "gpt")))).save_pretrained(tmp_path / "merged")
    again: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(again), expected, atol=1e-5, rtol=0)


def copy_of(folder: Path, name: Path) -> Path:
    shutil.copytree(folder, name)
    return name


def refused(adapter: Path, base: Path | str, complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint):
        saved = find_model(adapter)
        load_adapted(saved, find_base(saved, str(base)))


def test_another_base_is_refused_by_name(folders: dict[str, Path], tmp_path: Path) -> None:  # noqa: F811
    own = copy_of(folders["gpt2"], tmp_path / "own")
    adapter = adapter_for(own, tmp_path / "adapter")
    refused(adapter, folders["gpt2"], f"was trained on own, not on {folders['gpt2']}; give that with --base")
    refused(adapter, "someone/own", "was trained on own, not on someone/own")
    refused(adapter, tmp_path / "nowhere" / "own", "not there: no such model folder|was trained on own, not on")
    another = tmp_path / "another" / "own"
    deeper = AutoConfig.from_pretrained(own, n_layer=3)
    AutoModelForSequenceClassification.from_config(deeper).base_model.save_pretrained(another)
    refused(adapter, another, r"another model than .*own: h.2.attn.c_attn.bias is missing in the one, and 96 in the")


def test_an_adapter_with_stray_weights_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:  # noqa: F811
    """PEFT would only warn."""
    adapter = adapter_for(folders["bert"], tmp_path / "adapter", targets=["query", "value"])
    content = json.loads((adapter / "adapter_config.json").read_text())
    content["target_modules"] = [
        name for name in content["target_modules"] if not name.endswith("1.attention.self.value")
    ]
    (adapter / "adapter_config.json").write_text(json.dumps(content))
    refused(adapter, folders["bert"], "does not fit .*stand in only one of the two")


def test_what_has_no_adapter_or_a_quantized_base(folders: dict[str, Path], tmp_path: Path) -> None:  # noqa: F811
    base = copy_of(folders["bert"], tmp_path / "base")
    adapter = adapter_for(base, tmp_path / "adapter")
    merge(load_adapted(find_model(adapter), ModelSettings(name=str(base)))).save_pretrained(tmp_path / "merged")
    with pytest.raises(SettingsError, match=r"there is no adapter in .*merged"):
        find_base(find_model(tmp_path / "merged"), str(base))
    config = json.loads((base / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (base / "config.json").write_text(json.dumps(config))
    refused(adapter, base, r"holds its weights in few bits already.*give the full-precision model .* with --base")
