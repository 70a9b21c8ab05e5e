"""What each strategy takes, how fast it is, and which one to choose."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from hfscale.errors import LaunchError, ModelError, SettingsError
from hfscale.launch.plan.adapters import has_peft
from hfscale.launch.plan.architecture import num_parameters
from hfscale.launch.plan.memory import StepMemory, measure_steps
from hfscale.launch.plan.strategies import Strategy, all_strategies
from hfscale.launch.plan.time_and_cost import Cluster, StepTime, step_time
from hfscale.launch.plan.timeline import PARTS
from hfscale.launch.plan.workload import Workload
from hfscale.schemas import LoraSettings

RESERVED = 0.06
"""Share of a GPU's memory left free, for the CUDA context and what the allocator can't hand out in one piece."""

_MOST = 4096  # sequences per forward pass
_AS_FAST = 1.02  # a simpler strategy is taken where it is at most so many times slower


class Row(NamedTuple):
    """One strategy."""

    strategy: Strategy
    fits: bool
    memory: dict[str, float]
    """Bytes per GPU, by what they are for (`PARTS`), at the step's highest moment; at a micro-batch of one sequence
    where that doesn't fit."""
    host_bytes: float
    """Bytes in the CPU memory of each node."""
    largest_micro_batch: int
    """Sequences per forward pass that fit, whatever the global batch is; 0 where not even one does."""
    micro_batch_size: int | None
    """Sequences per forward pass to train with: the largest divisor of a GPU's share of the global batch that fits."""
    accumulation_steps: int | None
    time: StepTime | None
    why_not: str | None
    """What can't be measured, or doesn't fit."""

    @property
    def total_bytes(self) -> float:
        """Peak bytes per GPU."""
        return sum(self.memory.values())


class Plan(NamedTuple):
    """All strategies, and the one to take."""

    workload: Workload
    cluster: Cluster
    num_weights: int
    usable_bytes: float
    """Of each GPU's memory, what training may take."""
    rows: list[Row]
    recommended: Row | None
    why: str
    """Why this one; where nothing fits, what would be needed."""

    def tokens_per_second(self, row: Row) -> float | None:
        """Over all GPUs, padding counted."""
        if row.time is None:
            return None
        return self.workload.global_batch_size * self.workload.tokens_per_sequence / row.time.total

    def run_hours(self, row: Row) -> float | None:
        """Hours of the whole run."""
        if row.time is None or self.workload.num_steps is None:
            return None
        return self.workload.num_steps * row.time.total / 3600

    def cost(self, row: Row) -> float | None:
        """Of the whole run, in the currency of the price per GPU hour."""
        hours, price = self.run_hours(row), self.cluster.price_per_gpu_hour
        return None if hours is None or price is None else hours * self.cluster.num_gpus * price


def make_plan(
    workload: Workload, cluster: Cluster, lora_rank: int = 16, strategies: list[Strategy] | None = None
) -> Plan:
    """Measure the workload's step and weigh the strategies, by default all that there are; those of its adapter alone
    where it has one.

    Args:
        lora_rank: of the adapters where the workload has none of its own.

    Raises:
        SettingsError: for a global batch that the GPUs can't share, or arithmetic that the GPU doesn't have.
        ModelError: for a model that can't be measured, or trained in any of these ways.
    """
    _check(workload, cluster)
    width = getattr(workload.config, "hidden_size", math.inf)
    if lora_rank > width:
        raise SettingsError(f"--lora_rank {lora_rank} is more than the model's width, {width}")
    share = workload.global_batch_size // cluster.num_gpus
    lora, bits = workload.lora or LoraSettings(r=lora_rank), workload.bits or 4
    kinds = (None, "lora", "qlora") if workload.lora is None else ("qlora" if workload.bits else "lora",)
    ways = strategies or [way for way in all_strategies() if way.adapters in kinds]
    kept = (workload.precision, lora, bits, workload.frozen)
    refusals = {way: reason for way in ways if (reason := _refusal(way, workload))}
    if len(refusals) == len(ways):
        raise ModelError(f"{ways[0].title}: {refusals[ways[0]]}")
    variants = {way: way.variant(*kept) for way in ways if way not in refusals}
    steps = measure_steps(workload, list(dict.fromkeys(variants.values())), share)
    num_weights = num_parameters(workload)
    usable = cluster.gpu.memory_gib * 2**30 * (1 - RESERVED)
    rows = []
    for way in ways:
        if way in variants:
            rows.append(_Judge(workload, cluster, way, steps[variants[way]], num_weights, usable).row(share))
        else:
            rows.append(_unmeasured(way, refusals[way]))
    best, why = _recommend(rows)
    if best is None:
        judges = [_Judge(workload, cluster, way, steps[variants[way]], num_weights, usable) for way in variants]
        why = _needed(judges, cluster)
    return Plan(workload, cluster, num_weights, usable, rows, best, why)


def _check(workload: Workload, cluster: Cluster) -> None:
    if workload.precision == "bf16" and cluster.gpu.bf16_tflops is None:
        raise SettingsError(f"{cluster.gpu.title} has no bf16 arithmetic; take fp32, or another --gpu")
    if cluster.num_gpus % cluster.num_nodes:
        raise SettingsError(f"{cluster.num_gpus} GPUs can't be shared evenly by {cluster.num_nodes} nodes")
    per_pass = cluster.num_gpus * (workload.micro_batch_size or 1)
    if workload.global_batch_size % per_pass:
        micro = f" with a micro-batch of {workload.micro_batch_size}" if workload.micro_batch_size else ""
        near = max(1, round(workload.global_batch_size / per_pass)) * per_pass
        raise SettingsError(
            f"a global batch of {workload.global_batch_size} can't be shared by {cluster.num_gpus} GPUs{micro}; "
            f"{near} can"
        )


def _refusal(way: Strategy, workload: Workload) -> str | None:
    if way.adapters and not has_peft():
        return "needs peft: pip install 'hfscale[peft]'"
    return way.refusal(workload)


def _unmeasured(strategy: Strategy, why_not: str) -> Row:
    return Row(strategy, False, dict.fromkeys(PARTS, 0.0), 0.0, 0, None, None, None, why_not)


@dataclass(frozen=True)
class _Judge:
    """One strategy on one cluster."""

    workload: Workload
    cluster: Cluster
    strategy: Strategy
    step: StepMemory
    num_weights: int
    usable_bytes: float

    def parts(self, micro_batch: int, accumulates: bool = False) -> np.ndarray:
        """(parts,) bytes per GPU."""
        way, gpus = self.strategy, self.cluster.num_gpus
        extra = way.extra(self.workload, self.step.num_trained, self.num_weights, gpus)
        return self.step.parts(micro_batch, way.factors(gpus), extra, accumulates)

    def fits(self, micro_batch: int, accumulates: bool = False) -> bool:
        return float(self.parts(micro_batch, accumulates).sum()) <= self.usable_bytes

    def row(self, share: int) -> Row:
        """Args: share: sequences of one GPU in a global batch."""
        largest = self._largest()
        micro = self._micro_batch(share)
        host = (
            self.strategy.host_bytes(self.workload, self.step.num_trained, self.num_weights) / self.cluster.num_nodes
        )
        if micro is None:
            smallest = self.workload.micro_batch_size or 1
            parts = self.parts(smallest, smallest < share)
            over = (float(parts.sum()) - self.usable_bytes) / 2**30
            memory = {str(part): size for part, size in zip(PARTS, parts.tolist(), strict=True)}
            return Row(self.strategy, False, memory, host, largest, None, None, None, f"{over:.1f} GiB too much")
        held = self.parts(micro, micro < share).tolist()
        memory = {str(part): size for part, size in zip(PARTS, held, strict=True)}
        passes = share // micro
        flops = self.step.flops(micro)
        time = step_time(
            self.workload, self.cluster, self.strategy, flops, passes, self.step.num_trained, self.num_weights
        )
        return Row(self.strategy, True, memory, host, largest, micro, passes, time, None)

    def _largest(self) -> int:
        low, high = 0, _MOST
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.fits(middle) else (low, middle - 1)
        return low

    def _micro_batch(self, share: int) -> int | None:
        wanted = self.workload.micro_batch_size
        sizes = [wanted] if wanted else [size for size in range(share, 0, -1) if share % size == 0]
        return next((size for size in sizes if self.fits(size, accumulates=size < share)), None)


def _recommend(rows: list[Row]) -> tuple[Row | None, str]:
    """The fastest strategy that trains all weights, else adapters; the simplest of those that are about as fast."""
    for adapters in (False, True):
        fitting = [row for row in rows if row.fits and bool(row.strategy.adapters) == adapters]
        if not fitting:
            continue
        fastest = min(row.time.total for row in fitting if row.time)
        best = next(row for row in fitting if row.time and row.time.total <= fastest * _AS_FAST)
        return best, _why(best, rows, adapters, best.time is not None and best.time.total <= fastest)
    return None, ""


def _why(best: Row, rows: list[Row], adapters: bool, is_fastest: bool) -> str:
    kind = "adapters, since no strategy that trains all weights fits" if adapters else "all weights are trained"
    if all(row.strategy.adapters for row in rows):
        kind = "an adapter is trained, as the settings say"
    simpler = rows[: rows.index(best)]
    left = [row.strategy.title for row in simpler if not row.fits and bool(row.strategy.adapters) == adapters]
    slower = [row.strategy.title for row in simpler if row.fits]
    rule = (
        "the fastest that fits" if is_fastest else f"the simplest within {_AS_FAST - 1:.0%} of the fastest that fits"
    )
    reasons = [f"{rule} ({kind})"]
    if left:
        reasons.append(f"{', '.join(left)} {'do' if len(left) > 1 else 'does'} not fit")
    if slower:
        reasons.append(f"{', '.join(slower)} {'are' if len(slower) > 1 else 'is'} slower")
    return "; ".join(reasons)


def _needed(judges: list[_Judge], cluster: Cluster) -> str:
    """What it would take where nothing fits: more GPUs, or a larger one."""
    least = min(judges, key=lambda judge: float(judge.parts(judge.workload.micro_batch_size or 1).sum()))
    micro = least.workload.micro_batch_size or 1
    gib = float(least.parts(micro).sum()) / 2**30 / (1 - RESERVED)
    needs = [f"the smallest, {least.strategy.title}, needs GPUs of {math.ceil(gib)} GiB"]
    sharded = [judge for judge in judges if judge.strategy.zero_stage == 3]
    for power in range(1, 12):
        gpus = cluster.num_gpus * 2**power
        wider = [replace(judge, cluster=replace(judge.cluster, num_gpus=gpus, num_nodes=gpus)) for judge in sharded]
        enough = next((judge for judge in wider if judge.fits(micro)), None)
        if enough:
            needs.append(f"{gpus} GPUs of this kind are enough for {enough.strategy.title}")
            break
    needs.append("a shorter sequence takes less")
    return "; ".join(needs)


def refuse_misfit(plan: Plan) -> None:
    """Raises: LaunchError: where no strategy fits, with what would be needed."""
    if plan.recommended is None:
        raise LaunchError(
            f"{plan.workload.name} fits nowhere on {plan.cluster.num_gpus} x {plan.cluster.gpu.title}: {plan.why}"
        )
