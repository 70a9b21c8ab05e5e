"""Two models side by side: in one process, taking turns, so that a busy machine is busy for both."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

_MOST_SECONDS, _FEWEST_ROUNDS, _MOST_ROUNDS = 20.0, 9, 60


class Speed(NamedTuple):
    """Medians over the rounds."""

    latency_ms: float
    """Of one example alone."""
    examples_per_second: float
    """In a batch."""
    layers_ms: float
    """Of a batch, in the layers that were pruned."""


class SpeedUp(NamedTuple):
    """How many times as fast the second model is: medians of the ratios within each round."""

    latency: float
    throughput: float
    pruned_layers: float


def time_by_turns(
    models: tuple[nn.Module, nn.Module], layers: Iterable[str], one: dict[str, Any], many: dict[str, Any]
) -> tuple[Speed, Speed, SpeedUp]:
    """Speed of both models, and how they compare.

    Args:
        layers: names of the modules whose share of the time is measured.
        one, many: inputs of a single example and of a batch.
    """
    names = sorted(layers)
    clocks = (
        lambda model: seconds_of(model, one),
        lambda model: seconds_of(model, many),
        lambda model: _seconds_inside(model, names, many),  # apart, because to look inside slows the whole down
    )
    rounds: list[list[list[float]]] = []
    end = time.perf_counter() + _MOST_SECONDS
    with torch.inference_mode():
        while len(rounds) < _FEWEST_ROUNDS or (len(rounds) < _MOST_ROUNDS and time.perf_counter() < end):
            turns = models if len(rounds) % 2 else models[::-1]
            taken = [[clock(model) for model in turns] for clock in clocks]
            rounds.append(taken if len(rounds) % 2 else [pair[::-1] for pair in taken])
    seconds = np.array(rounds[1:])  # (rounds, clocks, models); the first one warms up
    batch_size = len(next(iter(many.values())))
    speeds = [
        Speed(float(alone * 1e3), float(batch_size / whole), float(inside * 1e3))
        for alone, whole, inside in np.median(seconds, axis=0).T
    ]
    ratios = np.median(seconds[..., 0] / seconds[..., 1], axis=0)
    return speeds[0], speeds[1], SpeedUp(*ratios.tolist())


def seconds_of(model: Callable[..., Any], inputs: dict[str, Any]) -> float:
    """Of one pass, until all of it is done."""
    start = _now()
    model(**inputs)
    return _now() - start


def _seconds_inside(model: nn.Module, names: list[str], inputs: dict[str, Any]) -> float:
    with _clocks([model.get_submodule(name) for name in names]) as seconds:
        model(**inputs)
    return sum(seconds)


@contextlib.contextmanager
def _clocks(modules: list[nn.Module]) -> Generator[list[float]]:
    """Seconds of each call of the modules."""
    seconds: list[float] = []
    begun: list[float] = []
    hooks = [module.register_forward_pre_hook(lambda *_: begun.append(_now())) for module in modules]
    hooks += [module.register_forward_hook(lambda *_: seconds.append(_now() - begun.pop())) for module in modules]
    try:
        yield seconds
    finally:
        for hook in hooks:
            hook.remove()


def _now() -> float:
    """The time when all that was started is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
