"""Weights in 8 and 4 bits under an adapter: what is kept whole, what is counted, what is refused."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from hfscale.errors import ModelError
from hfscale.models import load_text_classifier, save_text_classifier
from hfscale.models.quantization import (
    bits_arguments,
    moved_scales,
    num_bytes,
    num_weights,
    quantized_options,
    rows_apart,
)
from hfscale.schemas import LoraSettings, ModelSettings, OptimSettings, QuantSettings, check_adapter
from hfscale.training import build_optimizer
from hfscale.training.state import load_optimizer_state, optimizer_state
from tests.unit.models.test_adapters import LABELS, SINGLE, disturb, folders, logits, saved  # noqa: F401

pytest.importorskip("peft", reason="needs the extra `peft`")
pytestmark = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs the extra `quant`")


def load(folder: Path, bits: Any, **changed: Any) -> Any:
    quant = QuantSettings(bits=bits, **changed)
    return load_text_classifier(ModelSettings(name=str(folder)), SINGLE, LABELS, 0, LoraSettings(r=4), quant)


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("bits", [8, 4])
def test_layers_are_quantized_and_heads_are_not(folders: dict[str, Path], architecture: str, bits: int) -> None:  # noqa: F811
    model = load(folders[architecture], bits).model
    kinds = {name: type(module).__name__ for name, module in model.named_modules()}
    wanted = "Linear8bitLt" if bits == 8 else "Linear4bit"
    base = {name: kind for name, kind in kinds.items() if name.endswith("base_layer")}
    whole = ("pooler", "classifier", "score")
    assert len([kind for name, kind in base.items() if kind == wanted]) >= 8
    assert all(kind == wanted for name, kind in base.items() if not any(part in name for part in whole))
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any("modules_to_save" in name for name in trained)
    assert {parameter.dtype for parameter in trained.values()} == {torch.float32}


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("bits", [8, 4])
def test_a_saved_adapter_finds_its_base_in_as_many_bits(
    folders: dict[str, Path], tmp_path: Path, architecture: str, bits: int  # noqa: F811
) -> None:  # fmt: skip
    classifier = load(folders[architecture], bits)
    model: Any = classifier.model.eval()
    disturb(model)
    save_text_classifier(classifier, tmp_path / "adapter")
    assert "quantization_config" not in json.loads((tmp_path / "adapter" / "config.json").read_text())
    again: Any = saved(tmp_path / "adapter", folders[architecture]).model
    torch.testing.assert_close(logits(again), logits(model), atol=1e-6, rtol=0)
    # All weights have the same bits, and so have the logits once nothing is trained: torch multiplies a view, such as
    # the first token of all texts, in another order where the matrix needs a gradient (`should_fold`).
    model.requires_grad_(False)
    assert torch.equal(logits(again), logits(model))


@pytest.mark.parametrize(
    "quant", [QuantSettings(bits=8), QuantSettings(bits=4), QuantSettings(bits=4, type="fp4", double=False)]
)
def test_a_quantized_folder_reloads_with_the_same_bits(
    folders: dict[str, Path], tmp_path: Path, quant: QuantSettings  # noqa: F811
) -> None:  # fmt: skip
    """The options by which hfscale quantizes make a BERT that transformers saves and loads, scales and all."""
    config = AutoConfig.from_pretrained(folders["bert"])
    options = quantized_options(bits_arguments(config, AutoModelForSequenceClassification, quant, False))
    model: Any = AutoModelForSequenceClassification.from_pretrained(folders["bert"], config=config, **options)
    model.save_pretrained(tmp_path / "quantized")
    again: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path / "quantized")
    held, expected = again.state_dict(), model.state_dict()
    assert held.keys() == expected.keys() and all(torch.equal(held[name], expected[name]) for name in held)
    integers = {weight.dtype for weight in held.values()} & {torch.int8, torch.uint8}
    assert integers and torch.equal(logits(again.eval()), logits(model.eval()))
    for lora in (None, LoraSettings(r=4)):  # neither to be trained, nor told from what --quant makes
        with pytest.raises(ModelError, match="holds its weights in few bits already; give the full-precision model"):
            load_text_classifier(ModelSettings(name=str(tmp_path / "quantized")), SINGLE, LABELS, 0, lora)


def test_four_bits_compute_in_float32_on_a_cpu(folders: dict[str, Path]) -> None:  # noqa: F811
    modules = load(folders["bert"], 4).model.modules()
    types = {module.compute_dtype for module in modules if hasattr(module, "compute_dtype")}
    assert types == {torch.bfloat16 if torch.cuda.is_available() else torch.float32}


@pytest.mark.parametrize("bits", [8, 4])
def test_an_evaluation_leaves_the_gradient_as_it_was(folders: dict[str, Path], bits: int) -> None:  # noqa: F811
    """bitsandbytes has faster kernels for evaluation on some CPUs, which know no gradient, and would stay in use."""
    model: Any = load(folders["bert"], bits, **({} if bits == 8 else {"double": False})).model
    gradients = []
    for _ in range(2):
        torch.manual_seed(0)  # for dropout
        model.train()(input_ids=torch.arange(5, 17).view(2, 6)).logits.sum().backward()
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        gradients.append([weight.grad.clone() for weight in trained if weight.grad is not None])
        model.zero_grad()
        with torch.no_grad():
            logits(model.eval())
    assert all(torch.allclose(after, before, atol=1e-6) for before, after in zip(*gradients, strict=True))


def test_sizes_have_the_scales(folders: dict[str, Path]) -> None:  # noqa: F811
    """`get_memory_footprint` finds nf4 and nf4 with double quantization equally large."""
    held = {}
    for double in (True, False):
        parameters = list(load(folders["bert"], 4, double=double).model.parameters())
        packed = [each for each in parameters if hasattr(each, "quant_state")]
        assert sum(map(num_weights, packed)) == 2 * sum(each.numel() for each in packed)
        held[double] = sum(map(num_bytes, packed))
        assert held[double] > sum(each.numel() for each in packed)
    assert held[True] != held[False]


def test_scales_that_a_forward_pass_has_moved_are_counted(folders: dict[str, Path]) -> None:  # noqa: F811
    model = load(folders["bert"], 8).model
    before = sum(map(num_bytes, model.parameters())) + moved_scales(model)
    logits(model.eval())
    assert moved_scales(model) > 0
    assert sum(map(num_bytes, model.parameters())) + moved_scales(model) == before


@pytest.mark.parametrize(
    ("lora", "random_weights", "complaint"),
    [
        (None, False, "add an adapter"),
        (LoraSettings(method="pissa"), False, "pissa"),
        (LoraSettings(), True, "random"),
    ],
)
def test_what_can_not_be_trained_is_refused(lora: Any, random_weights: bool, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        check_adapter(lora, QuantSettings(bits=4), random_weights)


def test_dora_is_refused_on_8_bits_and_trained_on_4() -> None:
    check_adapter(LoraSettings(method="dora"), QuantSettings(bits=4))
    with pytest.raises(ValueError, match=r"--lora.method dora does not work with --quant.bits 8; take --quant.bits 4"):
        check_adapter(LoraSettings(method="dora"), QuantSettings(bits=8))


def test_settings_of_four_bits_have_no_effect_on_eight() -> None:
    with pytest.raises(ValueError, match=r"--quant.double has no effect with --quant.bits 8"):
        QuantSettings(bits=8, double=True)


def test_an_8_bit_optimizer_goes_on_with_the_same_bits() -> None:
    def step(model: Any, optimizer: Any, number: int) -> None:
        torch.manual_seed(number)
        model(torch.randn(4, 80)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    def made() -> tuple[Any, Any]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(80, 80), torch.nn.Linear(80, 80))
        return model, build_optimizer(model, OptimSettings(name="adamw8bit", lr=1e-2))

    model, optimizer = made()
    for number in range(3):
        step(model, optimizer, number)
    tensors, scalars = optimizer_state(model, optimizer)
    assert {tensor.dtype for name, tensor in tensors.items() if name.startswith("state1:0.weight")} == {torch.uint8}
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    again, its_optimizer = made()
    again.load_state_dict(model.state_dict())
    load_optimizer_state(again, its_optimizer, tensors, scalars)
    for number in range(3, 6):
        step(model, optimizer, number)
        step(again, its_optimizer, number)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))


def test_models_are_tried_in_float32(folders: dict[str, Path]) -> None:  # noqa: F811
    """On a GPU 4-bit weights are multiplied in bfloat16, which would hide whether documents are kept apart."""
    model: Any = load(folders["llama"], 4).model
    layers = [module for module in model.modules() if hasattr(module, "compute_dtype")]
    for layer in layers:
        layer.compute_dtype = torch.bfloat16
    with rows_apart(model):
        assert layers and {layer.compute_dtype for layer in layers} == {torch.float32}
    assert {layer.compute_dtype for layer in layers} == {torch.bfloat16}
