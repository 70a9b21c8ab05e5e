"""The model card says what was measured and names no path of the machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from hfscale.hub import model_card
from hfscale.schemas import DataSettings, LoraSettings, ModelSettings, OptimSettings, QuantSettings, TrainSettings

RESULT: dict[str, Any] = {
    "metrics": {"accuracy": 0.91},
    "baselines": {"majority": {"accuracy": 0.5}},
    "held_out": "validation",
    "num_examples": {"train": 90, "validation": 10, "test": 20},
    "steps": 10,
    "epochs": 1.0,
    "train_seconds": 3.0,
    "num_processes": 1,
}


@dataclass(frozen=True, kw_only=True)
class Config:
    model: ModelSettings
    data: DataSettings
    task: str = "single_label_classification"
    optim: OptimSettings
    train: TrainSettings


def card(train: str, model: str = "builtin:minilm", task: str = "single_label_classification", **more: Any) -> str:
    config = Config(
        task=task,
        model=ModelSettings(name=model),
        data=DataSettings(train=train),
        optim=OptimSettings(),
        train=TrainSettings(output_dir="/home/someone/run"),
    )
    return model_card(config, {**RESULT, **more}, ["no", "yes"])


@pytest.mark.parametrize("train", ["/home/someone/secret/*.csv", "/home/someone/secret/rows.csv", "~/secret/rows.csv"])
def test_no_path(train: str) -> None:
    assert "someone" not in card(train)
    assert "secret" not in card(train)
    assert train.rpartition("/")[2] in card(train)


def test_what_it_says(tmp_path: Path) -> None:
    text = card("builtin:tickets")
    metadata = yaml.safe_load(text.split("---")[1])
    assert metadata["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert "0.9100" in text and "0.5000" in text
    assert "also chose the best step" in text
    assert "also chose" not in card("builtin:tickets", held_out="test")
    assert "base_model" not in yaml.safe_load(card("x/y", model=str(tmp_path)).split("---")[1])


def test_tags_are_asked_for_by_their_words_first_tokens() -> None:
    assert 'pipeline("token-classification", "PATH_OR_HUB_ID", aggregation_strategy="first")("your text")' in card(
        "builtin:tickets", task="token_classification"
    )
    assert "aggregation_strategy" not in card("builtin:tickets")


@dataclass(frozen=True, kw_only=True)
class AdapterConfig(Config):
    lora: LoraSettings
    quant: QuantSettings | None = None


def adapter_card(model: ModelSettings, quant: QuantSettings | None = None) -> str:
    config = AdapterConfig(
        model=model,
        data=DataSettings(train="builtin:tickets"),
        optim=OptimSettings(),
        train=TrainSettings(output_dir="/home/someone/run"),
        lora=LoraSettings(),
        quant=quant,
    )
    return model_card(config, {**RESULT, "num_trained_parameters": 1234}, ["no", "yes"])


def test_an_adapter_names_its_base_on_the_hub_and_its_bits() -> None:
    text = adapter_card(ModelSettings(name="org/bert", revision="v2"), QuantSettings(bits=4))
    metadata = yaml.safe_load(text.split("---")[1])
    assert metadata["base_model"] == "org/bert" and metadata["library_name"] == "peft"
    assert (
        '"org/bert", config=config, ignore_mismatched_sizes=True, revision="v2", quantization_config=in_bits' in text
    )
    assert "1,234 parameters, all others frozen, in 4 bits (nf4, double quantization)" in text


def test_an_adapter_of_a_local_model_says_that_it_must_be_given(tmp_path: Path) -> None:
    text = adapter_card(ModelSettings(name=str(tmp_path)))
    assert f"a local folder `{tmp_path.name}`, in place of PATH_OF_BASE" in text and str(tmp_path) not in text
    assert "base_model" not in yaml.safe_load(text.split("---")[1]) and "bitsandbytes" not in text
