"""Two models side by side: in one process, taking turns, so that a busy machine is busy for both."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Generator, Iterable
from typing import Any, NamedTuple

import torch
from torch import nn

_MOST_SECONDS, _FEWEST_ROUNDS, _MOST_ROUNDS = 15.0, 7, 60


class Speed(NamedTuple):
    """Medians over the rounds."""

    latency_ms: float
    """Of one example alone."""
    examples_per_second: float
    """In a batch."""
    layers_ms: float
    """Of a batch, in the layers that were pruned."""


def time_by_turns(
    models: tuple[nn.Module, nn.Module], layers: Iterable[str], one: dict[str, Any], many: dict[str, Any]
) -> tuple[Speed, Speed]:
    """Speed of both models.

    Args:
        layers: names of the modules whose share of the time is measured.
        one, many: inputs of a single example and of a batch.
    """
    names = sorted(layers)
    taken: list[dict[str, list[float]]] = [{"one": [], "many": [], "layers": []} for _ in models]
    end = time.perf_counter() + _MOST_SECONDS
    with torch.inference_mode():
        for number in range(_MOST_ROUNDS):
            if number >= _FEWEST_ROUNDS and time.perf_counter() > end:
                break
            turns = list(zip(models, taken, strict=True))
            for model, seconds in turns if number % 2 else reversed(turns):
                for kind, value in _round(model, names, one, many).items():
                    seconds[kind].append(value)
    batch_size = len(next(iter(many.values())))
    medians = [{kind: statistics.median(values[1:]) for kind, values in seconds.items()} for seconds in taken]
    before, after = (Speed(m["one"] * 1e3, batch_size / m["many"], m["layers"] * 1e3) for m in medians)
    return before, after


def _round(model: nn.Module, names: list[str], one: dict[str, Any], many: dict[str, Any]) -> dict[str, float]:
    """Seconds; what is measured inside has a pass of its own, because it slows down the whole."""
    taken = {kind: _seconds(lambda given=given: model(**given)) for kind, given in (("one", one), ("many", many))}
    with _clocks([model.get_submodule(name) for name in names]) as inside:
        model(**many)
    return {**taken, "layers": sum(inside)}


def _seconds(work: Callable[[], Any]) -> float:
    start = _now()
    work()
    return _now() - start


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
