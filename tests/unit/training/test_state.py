"""What decides how training goes on can be taken out, put back, and is the same to the last bit."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hfscale.schemas import OptimSettings
from hfscale.training import build_optimizer
from hfscale.training.state import (
    RandomState,
    buffers_of,
    estimated_bytes,
    load_optimizer_state,
    load_tensors,
    optimizer_state,
    parameters_of,
)


def network(seed: int) -> nn.Module:
    """Convolution in channels-last order, batch norm, and two layers with the same weights."""
    torch.manual_seed(seed)
    tied = nn.Linear(4, 4)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 4), tied, nn.Linear(4, 4))
    model[5].weight = tied.weight
    return model.to(memory_format=torch.channels_last)


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        model(torch.randn(8, 3, 3, 3, generator=draw)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


SETTINGS = {
    "adamw": OptimSettings(lr=1e-2),
    "sgd": OptimSettings(name="sgd", lr=1e-3),
    "sgd without momentum": OptimSettings(name="sgd", lr=1e-3, momentum=0.0),
}


@pytest.mark.parametrize("name", list(SETTINGS))
def test_two_networks_go_on_alike(name: str) -> None:
    first, second = network(0), network(1)
    optimizers = [build_optimizer(model, SETTINGS[name]) for model in (first, second)]
    learn(first, optimizers[0], 3, seed=5)
    load_tensors(parameters_of(second) | buffers_of(second), parameters_of(first) | buffers_of(first))
    tensors, scalars = optimizer_state(first, optimizers[0])
    load_optimizer_state(second, optimizers[1], tensors, json.loads(json.dumps(scalars)))
    for model, optimizer in zip((first, second), optimizers, strict=True):
        learn(model, optimizer, 3, seed=6)
    for key, weight in parameters_of(first).items():
        assert torch.equal(weight, parameters_of(second)[key]), key
    for key, buffer in buffers_of(first).items():
        assert torch.equal(buffer, buffers_of(second)[key]), key


def test_the_optimizers_state_has_the_weights_order_in_memory() -> None:
    model = network(0)
    optimizer = build_optimizer(model, SETTINGS["adamw"])
    learn(model, optimizer, 1, seed=5)
    tensors, scalars = optimizer_state(model, optimizer)
    again = build_optimizer(model, SETTINGS["adamw"])
    load_optimizer_state(model, again, {key: tensor.contiguous() for key, tensor in tensors.items()}, scalars)
    assert again.state[model[0].weight]["exp_avg"].stride() == model[0].weight.stride()


def test_tied_weights_stand_once() -> None:
    assert "5.weight" not in parameters_of(network(0))
    assert set(buffers_of(network(0))) == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}


def test_another_model_is_refused_by_name_and_nothing_is_changed() -> None:
    model = network(0)
    before = {name: weight.clone() for name, weight in parameters_of(model).items()}
    other = dict(parameters_of(network(1)), extra=torch.zeros(1))
    other["3.bias"] = torch.zeros(5)
    with pytest.raises(ValueError, match=r"extra, 3\.bias"):
        load_tensors(parameters_of(model), other)
    assert all(torch.equal(weight, before[name]) for name, weight in parameters_of(model).items())


@pytest.mark.parametrize("name, factor", [("adamw", 3), ("sgd", 2), ("sgd without momentum", 1)])
def test_the_size_is_known_before_the_first_step(name: str, factor: int) -> None:
    model = network(0)
    optimizer = build_optimizer(model, SETTINGS[name])
    weights, whole = estimated_bytes(model, optimizer)
    assert whole == factor * weights
    learn(model, optimizer, 1, seed=0)
    held = [*parameters_of(model).values(), *(t for t in optimizer_state(model, optimizer)[0].values() if t.ndim)]
    assert sum(tensor.numel() * tensor.element_size() for tensor in held) == whole


def draws() -> list[Any]:
    return [random.random(), random.gauss(0, 1), *np.random.randn(3).tolist(), *torch.randn(3).tolist()]


def test_random_generators_go_on_alike() -> None:
    random.gauss(0, 1)  # keeps a second number for its next call; so does numpy's
    np.random.randn(1)
    state = json.loads(json.dumps(RandomState.now().as_json()))
    expected = draws()
    assert draws() != expected
    RandomState.from_json(state).restore()
    assert draws() == expected
