"""What is measured is where it is spent, and nothing stays on the models."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import nn

from hfscale.compression.pruning_speed import time_by_turns


class Sleeper(nn.Module):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(self.seconds)
        return x


class Network(nn.Module):
    """2 ms outside of `pruned`."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.pruned, self.other = Sleeper(seconds), Sleeper(0.002)

    def forward(self, x: torch.Tensor) -> Any:
        return self.other(self.pruned(x))


def test_ratios_of_the_whole_and_of_the_pruned_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hfscale.compression.pruning_speed._MOST_SECONDS", 1.0)
    models = Network(0.016), Network(0.004)
    before, after, faster = time_by_turns(models, ["pruned"], {"x": torch.zeros(1)}, {"x": torch.zeros(8)})
    assert 16 < before.layers_ms < before.latency_ms
    assert 4 < after.layers_ms < after.latency_ms
    assert after.examples_per_second < 8 / 0.006
    assert 2 < faster.throughput < faster.pruned_layers < 4.5  # 18 / 6 and 16 / 4
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in models[0].modules())
