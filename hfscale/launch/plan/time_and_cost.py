"""How long a step takes and what the run costs: operations, bytes and a stated efficiency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from hfscale.launch.plan.gpus import Gpu
from hfscale.launch.plan.strategies import Strategy
from hfscale.launch.plan.workload import Workload

DEFAULT_EFFICIENCY = 0.4
"""Share of the matrix products' peak that a step is taken to reach. Published for language models of 1 to 7 B
parameters on H100s: 0.35 to 0.46 (llm-foundry, scripts/train/benchmarking). Small models stay far below."""

NODE_LINK_GB_S = 25.0
"""10**9 bytes per second, direction and GPU between nodes: an adapter of 200 Gb/s for each GPU."""

_HOST_BANDWIDTH_GB_S = 100.0  # of a CPU's memory, shared by the GPUs of a node: what an update there is bound by
_GPUS_PER_NODE = 8


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What there is to train on."""

    gpu: Gpu
    num_gpus: int
    num_nodes: int
    efficiency: float = DEFAULT_EFFICIENCY
    price_per_gpu_hour: float | None = None

    @property
    def gpus_per_node(self) -> int:
        return self.num_gpus // self.num_nodes

    def peak_flops(self, precision: str) -> float:
        """Operations per second of one GPU at its peak."""
        tflops = self.gpu.bf16_tflops if precision == "bf16" else self.gpu.fp32_tflops
        assert tflops is not None
        return tflops * 1e12

    @property
    def link_bytes_per_second(self) -> float:
        """Of each GPU in one direction, over the slowest link that a ring takes."""
        slowest = self.gpu.link_gb_s if self.num_nodes == 1 else min(self.gpu.link_gb_s, NODE_LINK_GB_S)
        return slowest * 1e9


def default_nodes(num_gpus: int) -> int:
    """As few nodes as hold the same number of GPUs each, up to 8."""
    return next(nodes for nodes in range(-(-num_gpus // _GPUS_PER_NODE), num_gpus + 1) if num_gpus % nodes == 0)


class StepTime(NamedTuple):
    """Seconds of one optimizer step."""

    compute: float
    communication: float
    update: float

    @property
    def total(self) -> float:
        """Communication runs beside the computing; the update comes after both."""
        return max(self.compute, self.communication) + self.update


def step_time(
    workload: Workload,
    cluster: Cluster,
    strategy: Strategy,
    flops_per_pass: float,
    passes: int,
    num_trained: int,
    num_weights: int,
) -> StepTime:
    """Seconds of an optimizer step of `passes` forward and backward passes on each GPU."""
    compute = flops_per_pass * passes / (cluster.peak_flops(workload.precision) * cluster.efficiency)
    sent = strategy.sent_bytes(workload, num_trained, num_weights, cluster.num_gpus, passes)
    communication = sent / cluster.link_bytes_per_second
    share = num_trained / (cluster.num_gpus if strategy.zero_stage else 1)
    # Reads weight, gradient and state, writes weight and state, all in float32
    touched = share * (2 * strategy.optimizer_bytes(workload) + 12)
    if not strategy.offload_optimizer:
        return StepTime(compute, communication, touched / (cluster.gpu.bandwidth_gb_s * 1e9))
    size = 2 if workload.precision == "bf16" else 4
    there_and_back = 2 * share * size / (cluster.gpu.host_gb_s * 1e9)
    if strategy.offload_weights:  # each GPU fetches its share of the weights for each pass, forward and backward
        there_and_back += 2 * passes * num_weights / cluster.num_gpus * size / (cluster.gpu.host_gb_s * 1e9)
    on_host = touched / (_HOST_BANDWIDTH_GB_S * 1e9 / cluster.gpus_per_node)
    return StepTime(compute, communication, there_and_back + on_host)
