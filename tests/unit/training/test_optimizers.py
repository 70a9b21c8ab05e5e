"""What is decayed, and that the optimizer's own settings arrive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from hfscale.schemas import OptimSettings
from hfscale.training import build_optimizer


@pytest.fixture
def model(tiny_model: Path) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(tiny_model)


def decays(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Name of each parameter that is optimized -> its weight decay."""
    of = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    return {name: of[id(p)] for name, p in model.named_parameters() if id(p) in of}


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_biases_and_norms_are_not_decayed(model: Any, name: Any) -> None:
    decay = decays(model, build_optimizer(model, OptimSettings(name=name, weight_decay=0.3)))
    assert set(decay) == {name for name, _ in model.named_parameters()}
    for parameter, value in decay.items():
        spared = parameter.endswith("bias") or "LayerNorm" in parameter
        assert value == (0.0 if spared else 0.3), parameter


def test_frozen_weights_are_left_alone(model: Any) -> None:
    model.bert.requires_grad_(False)
    decay = decays(model, build_optimizer(model, OptimSettings()))
    assert set(decay) == {"classifier.weight", "classifier.bias"}


def test_a_model_of_vectors_alone() -> None:
    norm = torch.nn.LayerNorm(4)
    build_optimizer(norm, OptimSettings())


def test_settings_of_adamw_arrive(model: Any) -> None:
    optimizer = build_optimizer(model, OptimSettings(lr=0.5, betas=(0.7, 0.8), eps=1e-3))
    assert isinstance(optimizer, torch.optim.AdamW)
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"], group["eps"]) == (0.5, (0.7, 0.8), 1e-3)


@pytest.mark.parametrize("given, momentum", [(None, 0.9), (0.0, 0.0), (0.5, 0.5)])
def test_settings_of_sgd_arrive(model: Any, given: float | None, momentum: float) -> None:
    optimizer = build_optimizer(model, OptimSettings(name="sgd", momentum=given, nesterov=momentum > 0))
    assert isinstance(optimizer, torch.optim.SGD)
    for group in optimizer.param_groups:
        assert (group["momentum"], group["nesterov"]) == (momentum, momentum > 0)


def test_decay_alone_shrinks_matrices_only() -> None:
    layer = torch.nn.Linear(3, 3)
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    optimizer = build_optimizer(layer, OptimSettings(lr=0.1, weight_decay=0.5))
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), before["weight"] * (1 - 0.1 * 0.5))
    torch.testing.assert_close(layer.bias.detach(), before["bias"], rtol=0, atol=0)
