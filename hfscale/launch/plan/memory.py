"""Memory and operations of a step at any depth and micro-batch size, from a few measured ones."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hfscale.launch.plan.architecture import measured_depths, num_layers
from hfscale.launch.plan.fake_step import Variant, measure
from hfscale.launch.plan.timeline import COPIES, MEASURED, PARTS, PHASES, Timeline
from hfscale.launch.plan.workload import Workload

_CHUNK_ROWS = 1024  # the loss's logits exist for at most so many targets, which is no line below
_FEW_JOBS = 6  # for fewer a second process is not worth its start


_Job = tuple[Workload, Variant, int, int]
"""Arguments of `measure`."""


@dataclass(frozen=True)
class StepMemory:
    """Measured steps of one variant: a plane over depth and micro-batch size."""

    layers: int
    depths: tuple[int, ...]
    batches: tuple[int, int]
    timelines: dict[tuple[int, int], Timeline]

    def parts(self, batch_size: int, factors: np.ndarray, extra: np.ndarray, accumulates: bool = False) -> np.ndarray:
        """(parts,) bytes at the step's highest moment.

        Args:
            batch_size: sequences per forward pass.
            factors: share of each measured part that one GPU holds (`MEASURED`).
            extra: (phases, measured parts) bytes that are there besides.
            accumulates: whether several micro-batches make up a step.
        """
        peaks = {key: line.peaks(factors, accumulates) for key, line in self.timelines.items()}
        phases = _plane(peaks, self.depths, self.batches, self.layers, batch_size) + extra
        highest = _none_negative(phases[phases.sum(1).argmax()])
        highest[PARTS.index("activations")] += highest[COPIES]
        return highest[: len(PARTS)]

    def flops(self, batch_size: int) -> float:
        """Floating point operations of a forward and backward pass."""
        flops = {key: np.float64(line.flops) for key, line in self.timelines.items()}
        at_first = _line(flops, self.depths, self.batches[0], self.layers)
        return float(at_first) * batch_size / self.batches[0]

    @property
    def num_trained(self) -> int:
        """Trained weights of the whole model."""
        counts = {key: np.float64(line.num_trained) for key, line in self.timelines.items()}
        return round(float(_line(counts, self.depths, self.batches[0], self.layers)))


def _none_negative(parts: np.ndarray) -> np.ndarray:
    """The same sum: beyond what was measured, a part that shrinks as another grows would fall below nothing."""
    held = parts.clip(min=0)
    return held * (max(parts.sum(), 0) / held.sum()) if held.sum() else held


def _line(values: dict[tuple[int, int], Any], depths: tuple[int, ...], batch: int, layers: int) -> Any:
    first = values[depths[0], batch]
    if len(depths) == 1:
        return first
    slope = (values[depths[1], batch] - first) / (depths[1] - depths[0])
    return first + slope * (layers - depths[0])


def _plane(values: Any, depths: tuple[int, ...], batches: tuple[int, int], layers: int, batch_size: int) -> Any:
    """The value at (layers, batch_size), linear in each of the two.

    Where the fourth corner was not measured, what a layer adds to activations and temporary memory is taken to grow
    with the batch in full, and what it adds to weights, their copies, gradients and optimizer not at all.
    """
    low, high = batches
    at_low = _line(values, depths, low, layers)
    if low == high:
        return at_low
    if (depths[-1], high) in values:
        at_high = _line(values, depths, high, layers)
    else:
        of_layers = at_low - values[depths[0], low]
        grows = np.array([0, 0, 0, 1, 1, 0]) * (high - low) / low
        at_high = values[depths[0], high] + of_layers * (1 + grows)
    return at_low + (at_high - at_low) * (batch_size - low) / (high - low)


def measured_batches(workload: Workload, share: int) -> tuple[int, int]:
    """Two micro-batch sizes through which the line is drawn: a GPU's share and half of it, or the smallest two where
    each sequence fills the loss's buffer many times, so that a large batch would take long and tell nothing new."""
    if _is_long(workload):
        return 1, 2
    high = max(2, workload.micro_batch_size or share)
    return high // 2, high


def _is_long(workload: Workload) -> bool:
    """Whether one sequence fills the loss's buffer: only what layers hold grows with each more, then."""
    return workload.objective in ("causal", "masked") and workload.num_targets(1) >= _CHUNK_ROWS


def measure_steps(workload: Workload, variants: Sequence[Variant], share: int) -> dict[Variant, StepMemory]:
    """Measure each variant at the depths and micro-batch sizes that a plane needs.

    Args:
        share: sequences of one GPU in a global batch.
    """
    depths, batches = measured_depths(workload), measured_batches(workload, share)
    quantized = {variant: replace(variant, bits=None) for variant in variants if variant.bits is not None}
    jobs: list[_Job] = []
    for variant in dict.fromkeys(quantized.get(variant, variant) for variant in variants):
        corners = [(depth, batch) for depth in depths for batch in batches]
        if len(corners) == 4 and _is_long(workload):
            corners.remove((depths[1], batches[1]))  # see `_plane`
        jobs += [(workload, variant, *corner) for corner in corners]
    lines = _run(jobs)
    found: dict[Variant, dict[tuple[int, int], Timeline]] = {}
    for (_, variant, depth, batch), line in zip(jobs, lines, strict=True):
        found.setdefault(variant, {})[depth, batch] = line
    for variant, twin in quantized.items():
        size = 2 if variant.weights == "bf16" else 4
        found[variant] = {key: line.in_bits(variant.bits or 4, size) for key, line in found[twin].items()}
    layers = num_layers(workload.config)
    return {variant: StepMemory(layers, depths, batches, lines) for variant, lines in found.items()}


def measured_at(workload: Workload, variant: Variant, batch_size: int) -> StepMemory:
    """Measure one variant at one micro-batch size, in this process."""
    depths = measured_depths(workload)
    lines = {(depth, batch_size): measure(workload, variant, depth, batch_size) for depth in depths}
    return StepMemory(num_layers(workload.config), depths, (batch_size, batch_size), lines)


def _run(jobs: list[_Job]) -> list[Timeline]:
    """Measure, in two processes where that is worth it and processes can be forked: forks are spared the imports, and
    peft, which takes the longest, is imported by the one that needs it."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    groups = [[job for job in jobs if (job[1].lora is None) == plain] for plain in (True, False)]
    groups = groups if all(groups) else [jobs[::2], jobs[1::2]]
    if cores < 2 or len(jobs) <= _FEW_JOBS or "fork" not in multiprocessing.get_all_start_methods():
        return _measure_all(jobs)
    if torch.cuda.is_available():  # which may have begun to use it: CUDA does not survive a fork
        return _measure_all(jobs)
    _import_what_all_need(groups[0][0])
    with ProcessPoolExecutor(len(groups), multiprocessing.get_context("fork")) as pool:
        lines = [line for found in pool.map(_measure_all, groups) for line in found]
    places = [id(job) for group in groups for job in group]
    return [lines[places.index(id(job))] for job in jobs]


def _import_what_all_need(job: _Job) -> None:
    import torch

    from hfscale.launch.plan.fake_step import prepared_model
    from hfscale.training import language_loss, losses, optimizers, step  # noqa: F401

    with torch.device("meta"):
        prepared_model(job[0], job[1], 1)


def _measure_all(jobs: list[_Job]) -> list[Timeline]:
    import torch

    torch.set_num_threads(1)
    return [measure(*job) for job in jobs]


def no_extra() -> np.ndarray:
    """(phases, measured parts) of zeros."""
    return np.zeros((len(PHASES), len(MEASURED)))
