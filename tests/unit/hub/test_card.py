"""The card of a text model says what was measured, and names no path of the machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import ModelCard

from hfscale.evaluation.intervals import wilson
from hfscale.files import write_json
from hfscale.hub import language_model_card, model_card, named_card
from hfscale.schemas import (
    CausalModelSettings,
    DataSettings,
    LoraSettings,
    ModelSettings,
    OptimSettings,
    QuantSettings,
    TrainSettings,
)

RESULT: dict[str, Any] = {
    "metrics": {"accuracy": 0.91, "loss": 0.3},
    "confidence_intervals": {"accuracy": wilson(0.91, 10)._asdict()},
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
    model: Any
    data: DataSettings
    task: Any = "single_label_classification"
    optim: OptimSettings
    train: TrainSettings
    hub: Any = None


def configured(
    train: str, model: str = "builtin:minilm", output_dir: str = "/home/someone/run", **more: Any
) -> Config:
    return Config(
        model=ModelSettings(name=model),
        data=DataSettings(train=train),
        optim=OptimSettings(),
        train=TrainSettings(output_dir=output_dir),
        **more,
    )


def card(train: str, model: str = "builtin:minilm", task: str = "single_label_classification", **more: Any) -> str:
    return model_card(configured(train, model, task=task), {**RESULT, **more}, ["no", "yes"])


def metadata(text: str) -> dict[str, Any]:
    """What huggingface_hub reads of it, and writes again without a change."""
    read = ModelCard(text)
    assert read.content.rstrip() == text.rstrip()
    return read.data.to_dict()


@pytest.mark.parametrize("train", ["/home/someone/secret/*.csv", "/home/someone/secret/rows.csv", "~/secret/rows.csv"])
def test_no_path(train: str) -> None:
    assert "someone" not in card(train)
    assert "secret" not in card(train)
    assert train.rpartition("/")[2] in card(train)
    assert "datasets" not in metadata(card(train))


def test_what_it_says(tmp_path: Path) -> None:
    text = card("builtin:tickets")
    assert metadata(text)["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert metadata(text)["base_model_relation"] == "finetune" and metadata(text)["language"] == "en"
    assert "0.9100 (0.6073 to 0.9851)" in text and "0.5000" in text and "of `accuracy` by Wilson's method" in text
    assert "also chose" not in text and "The same examples chose the best step" in text
    assert "The same examples" not in card("builtin:tickets", held_out="test")
    assert "base_model" not in metadata(card("x/y", model=str(tmp_path)))


def test_what_was_measured_stands_in_the_result_tables_of_the_hub() -> None:
    (entry,) = metadata(card("org/mails", metrics={"accuracy": 0.91, "f1": float("nan"), "loss": 1.0}))["model-index"]
    (result,) = entry["results"]
    assert result["task"] == {"type": "text-classification"}
    assert result["dataset"] == {"name": "org/mails (held-out part)", "type": "org/mails", "split": "train"}
    assert result["metrics"] == [{"type": "accuracy", "value": 0.91, "name": "Accuracy"}]
    (result,) = metadata(card("builtin:tickets", held_out="test"))["model-index"][0]["results"]
    assert result["dataset"] == {"name": "builtin:tickets", "type": "tickets", "split": "test"}
    assert metadata(card("org/mails"))["datasets"] == ["org/mails"]
    nothing = card("rows.csv", held_out=None, metrics={}, baselines={}, confidence_intervals={})
    assert not metadata(nothing).keys() & {"model-index", "model_name"} and "nothing was measured" in nothing


def test_a_base_that_is_here_tells_its_license_and_the_owner_has_the_last_word(tmp_path: Path) -> None:
    assert "license" not in metadata(card("rows.csv", model=str(tmp_path)))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# a base\n")
    assert metadata(card("rows.csv", model=str(tmp_path)))["license"] == "mit"
    hub = SimpleNamespace(repo_id="me/mails", license="cc-by-4.0", language="de")
    told = metadata(model_card(configured("rows.csv", str(tmp_path), hub=hub), RESULT, ["no", "yes"]))
    assert (told["license"], told["language"]) == ("cc-by-4.0", "de")
    assert told["model-index"][0]["name"] == "mails"


def test_on_its_way_to_the_hub_it_gets_its_name() -> None:
    text = named_card(card("rows.csv"), "me/mails", license="mit", language="fr")
    assert 'pipeline("text-classification", "me/mails")' in text and "PATH_OR_HUB_ID" not in text
    told = metadata(text)
    assert (told["license"], told["language"], told["model-index"][0]["name"]) == ("mit", "fr", "mails")
    assert named_card(text, "me/mails") == text
    again = metadata(named_card(card("rows.csv", model="me/mails"), "me/mails"))
    assert "base_model" not in again and "base_model_relation" not in again


def test_the_machine_is_what_the_run_noted_and_energy_says_how_it_was_made(tmp_path: Path) -> None:
    def told(**environment: Any) -> str:
        write_json(tmp_path / "environment.json", {"precision": "bf16", "packages": {"torch": "2.13"}, **environment})
        config = configured("rows.csv", output_dir=str(tmp_path))
        return model_card(config, {**RESULT, "train_seconds": 7200.0, "num_processes": 2}, ["no", "yes"])

    text = told(device="cpu", cpu_cores=4, threads_per_process=1)
    assert "2 processes on a CPU of 4 cores, 1 thread each, bf16." in text and "Time: 2.0 hours" in text
    assert "about 40 Wh, an estimate and no measurement: 2.0 hours x 2 busy cores x 10 W, which is assumed" in text
    text = told(device="NVIDIA H100", power_limit_watts=700.0)
    assert "2 processes on NVIDIA H100 each" in text and "about 2.8 kWh" in text and "2 GPUs x 700 W" in text
    earlier = [{"device": "cpu", "num_processes": 1, "cpu_cores": 4, "threads_per_process": 2}]
    text = told(device="NVIDIA H100", power_limit_watts=700.0, earlier=earlier)
    assert "Hardware of the last start: 2 processes on NVIDIA H100 each" in text
    assert "Hardware of earlier starts: 1 process on a CPU of 4 cores, 2 threads each." in text
    assert "as if all starts had had the hardware of the last" in text
    assert "Energy" not in told(device="NVIDIA H100") and "Energy" not in card("rows.csv")


def test_a_model_that_is_no_better_says_so() -> None:
    assert "By accuracy it is no better than `majority`." in card(
        "rows.csv", baselines={"majority": {"accuracy": 0.95}}
    )
    assert "no better" not in card("rows.csv")


def test_tags_are_asked_for_by_their_words_first_tokens() -> None:
    assert 'pipeline("token-classification", "PATH_OR_HUB_ID", aggregation_strategy="first")' in card(
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
    told = metadata(text)
    assert told["base_model"] == "org/bert" and told["library_name"] == "peft"
    assert told["base_model_relation"] == "adapter"
    assert (
        '"org/bert", config=config, ignore_mismatched_sizes=True, revision="v2", quantization_config=in_bits' in text
    )
    assert "1,234 parameters; all others frozen, in 4 bits (nf4, double quantization)" in text
    assert "trust_remote_code" not in text


def test_a_base_with_code_of_its_own_is_told_of() -> None:
    text = adapter_card(ModelSettings(name="org/bert", trust_remote_code=True))
    assert text.count("trust_remote_code=True") == 3 and "read it first" in text


def test_a_language_model_with_code_of_its_own_is_loaded_with_it() -> None:
    config = SimpleNamespace(
        model=CausalModelSettings(name="org/gpt", trust_remote_code=True),
        data=SimpleNamespace(train="rows.txt", validation=None, max_length=64),
        optim=OptimSettings(),
        train=TrainSettings(output_dir="run"),
    )
    text = language_model_card(config, {**RESULT, "metrics": {}, "num_tokens": {"train": 5760}}, "text-generation")
    assert text.count("trust_remote_code=True") == 2 and "read it first" in text


def test_an_adapter_of_a_local_model_says_that_it_must_be_given(tmp_path: Path) -> None:
    text = adapter_card(ModelSettings(name=str(tmp_path)))
    assert f"a local folder `{tmp_path.name}`, in place of PATH_OF_BASE" in text and str(tmp_path) not in text
    assert "base_model" not in metadata(text) and "bitsandbytes" not in text
