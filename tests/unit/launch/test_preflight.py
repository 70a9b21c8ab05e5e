"""What is said of a run before its first step, and what is refused."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from accelerate import Accelerator
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hfscale import launch
from hfscale.batch import Batch
from hfscale.errors import LaunchError
from hfscale.launch.example import describe_example, describe_special_tokens
from hfscale.launch.plan.workload import Workload
from hfscale.launch.preflight import predicted_bytes
from hfscale.schemas import LoraSettings, OptimSettings, TrainSettings
from tests.unit.launch.plan.test_memory import seq2seq_workload


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


def batch_of(tokenizer: Any, *texts: str, **labels: Any) -> Batch:
    encoded = tokenizer(list(texts), padding=True, return_tensors="pt")
    inputs = {name: encoded[name] for name in ("input_ids", "attention_mask")}
    return Batch({**inputs, **labels}, len(texts), int(encoded["attention_mask"].sum()))


def test_the_mask_and_the_target_are_shown(tokenizer: Any) -> None:
    batch = batch_of(tokenizer, "good film good film", "bad film", labels=torch.tensor([0, 1]))
    shown = describe_example(batch, tokenizer, {0: "positive", 1: "negative"})
    assert shown == "[CLS] bad film [SEP] -> negative; 4 tokens, 2 of padding masked out"


def test_targets_stand_at_their_tokens(tokenizer: Any) -> None:
    batch = batch_of(tokenizer, "good film", labels=torch.tensor([[-100, 1, 0, -100]]))
    shown = describe_example(batch, tokenizer, {0: "O", 1: "B-X"})
    assert shown == "[CLS] good=B-X film=O [SEP]; 4 tokens, 2 of them with a target"


def test_several_labels_numbers_and_images(tokenizer: Any) -> None:
    several = batch_of(tokenizer, "good", labels=torch.tensor([[1.0, 0.0, 1.0]]))
    assert "-> a, c;" in describe_example(several, tokenizer, {0: "a", 1: "b", 2: "c"})
    assert "-> 2.5;" in describe_example(batch_of(tokenizer, "good", labels=torch.tensor([2.5])), tokenizer, {})
    image = Batch({"pixel_values": torch.zeros(1, 1, 8, 8), "labels": torch.tensor([7])}, 1, 0)
    assert describe_example(image, None, {7: "seven"}) == "1 x 8 x 8 image, values 0.00 to 0.00 -> seven"


def test_special_tokens_are_named(tokenizer: Any) -> None:
    shown = describe_special_tokens(tokenizer)
    assert f"pad [PAD] {tokenizer.pad_token_id}" in shown and f"sep [SEP] {tokenizer.sep_token_id}" in shown


def config_of(**train: Any) -> Any:
    settings = TrainSettings(output_dir="x", **train)
    return SimpleNamespace(
        train=settings, optim=OptimSettings(), model=SimpleNamespace(trust_remote_code=False), mask=None
    )


def test_what_cannot_fit_is_refused(
    tiny_model: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    model: Any = AutoModelForSequenceClassification.from_pretrained(tiny_model)
    batches = [[batch_of(tokenizer, "good film", labels=torch.tensor([0]))]]
    arguments = (Accelerator(cpu=True), config_of(), model, batches, tokenizer, "single_label_classification")
    launch.preflight(*arguments)
    assert "far below" in capsys.readouterr().out
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    with pytest.raises(LaunchError, match=r"predicted peak .* try --train\.activation_checkpointing true"):
        launch.preflight(*arguments)
    launch.preflight(Accelerator(cpu=True), config_of(preflight=False), *arguments[2:])


def test_an_encoder_decoder_that_cannot_fit_is_refused(tokenizer: Any, monkeypatch: Any, capsys: Any) -> None:
    from transformers import AutoModelForSeq2SeqLM

    model: Any = AutoModelForSeq2SeqLM.from_config(seq2seq_workload("t5", 2, 1).config)
    batch = batch_of(tokenizer, "good film", "good", labels=torch.tensor([[5, 6, 1], [5, 1, -100]]))
    config = config_of(global_batch_size=2)
    config.label_smoothing = 0.1
    arguments = (Accelerator(cpu=True), config, model, [[batch]], tokenizer, "seq2seq")
    launch.preflight(*arguments)
    printed = capsys.readouterr().out
    assert "far below" in printed and "tokens read, 2 written" in printed
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    with pytest.raises(LaunchError, match=r"predicted peak .* try --train\.activation_checkpointing true"):
        launch.preflight(*arguments)


def test_a_model_that_cannot_be_measured_is_not_refused(
    tiny_model: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    model: Any = AutoModelForSequenceClassification.from_pretrained(tiny_model)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))

    def unmeasurable(*_: Any) -> float:
        raise AttributeError("no hidden_size")

    monkeypatch.setattr(sys.modules[predicted_bytes.__module__], "rough_bound", unmeasurable)
    batches = [[batch_of(tokenizer, "good film", labels=torch.tensor([0]))]]
    launch.preflight(Accelerator(cpu=True), config_of(), model, batches, tokenizer, "single_label_classification")
    assert "memory     not predicted for a bert model (no hidden_size)" in capsys.readouterr().out


def test_prediction_grows_with_the_batch_and_shrinks_with_checkpointing(tiny_model: Path) -> None:
    model: Any = AutoModelForSequenceClassification.from_pretrained(tiny_model)

    def predicted(size: int, checkpointing: bool = False) -> float:
        workload = Workload(
            name="tiny", config=model.config, objective="single_label_classification", sequence_length=64,
            global_batch_size=size, micro_batch_size=size, precision="fp32",
        )  # fmt: skip
        return predicted_bytes(Accelerator(cpu=True), workload, model, False, checkpointing)

    assert predicted(64) > 1.5 * predicted(16)
    assert predicted(64, checkpointing=True) <= predicted(64)


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="needs the extra `peft`")
def test_prediction_knows_adapters_and_bits(tiny_model: Path) -> None:
    model: Any = AutoModelForSequenceClassification.from_pretrained(tiny_model)

    def predicted(lora: LoraSettings | None, bits: Any = None, stage: int = 0) -> float:
        workload = Workload(
            name="tiny", config=model.config, objective="single_label_classification", sequence_length=8,
            global_batch_size=1, micro_batch_size=1, precision="fp32", lora=lora, bits=bits,
        )  # fmt: skip
        accelerator: Any = Accelerator(cpu=True)
        if stage:
            plugin = SimpleNamespace(zero_stage=stage, offload_optimizer_device="none", offload_param_device="none")
            state = SimpleNamespace(deepspeed_plugin=plugin)
            accelerator = SimpleNamespace(state=state, device=torch.device("cpu"), num_processes=2)
        return predicted_bytes(accelerator, workload, model, False, False)

    full, lora, small = predicted(None), predicted(LoraSettings(r=8)), predicted(LoraSettings(r=1))
    assert full > lora > small, "fewer weights have gradients and moments"
    assert small > predicted(LoraSettings(r=1), 8) > predicted(LoraSettings(r=1), 4)
    assert predicted(LoraSettings(method="pissa", r=8)) == lora
    assert predicted(LoraSettings(r=8), 4, stage=2) < full
    with pytest.raises(LaunchError, match="quantized weights under ZeRO stage 3 can't be predicted"):
        predicted(LoraSettings(r=8), 4, stage=3)
