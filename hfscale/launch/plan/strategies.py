"""Ways to train: who holds which part of the memory, and what goes over the links.

Parts of ZeRO: Rajbhandari et al. 2020 (arXiv:1910.02054), section 3. There a weight takes 2 bytes, its gradient 2 and
its optimizer state 12; hfscale keeps weights and gradients in float32 under bf16, too (4, 4, and AdamW's 8): 16 in all
again, which stage 3 divides by the number of GPUs. Buffers are those of DeepSpeed's settings (`zero_optimization`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hfscale.launch.plan.adam_8bit import BYTES_PER_WEIGHT
from hfscale.launch.plan.fake_step import Variant
from hfscale.launch.plan.timeline import MEASURED, PARTS, PHASES
from hfscale.launch.plan.workload import Precision, Workload
from hfscale.schemas import LoraSettings

_REDUCE_BUCKET = 500_000_000  # elements: reduce_bucket_size, which hfscale sets to no more than there are gradients
_LIVE_WEIGHTS = 1_000_000_000  # elements: stage3_max_live_parameters, gathered weights that are kept for reuse
_TEMPORARY = PARTS.index("temporary")
_BEFORE_UPDATE = slice(0, PHASES.index("optimizer"))


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """One way to train."""

    name: str
    zero_stage: Literal[0, 1, 2, 3] = 0
    """0 is DistributedDataParallel; 1 shards the optimizer, 2 gradients too, 3 weights too."""
    offload_optimizer: bool = False
    """Optimizer and gradients in the CPU's memory, where the update is computed, too."""
    offload_weights: bool = False
    adapters: Literal["lora", "qlora"] | None = None
    checkpointing: bool = False

    @property
    def title(self) -> str:
        """For people."""
        return self.name + (" + checkpointing" if self.checkpointing else "")

    def variant(
        self, precision: Precision, lora: LoraSettings, bits: Literal[4, 8] = 4, frozen: Precision | None = None
    ) -> Variant:
        """What has to be measured for it: `bits` of quantized weights; whole ones beside adapters are held as
        `frozen`."""
        autocast, checkpointing = precision == "bf16", self.checkpointing
        if self.adapters == "qlora":
            # What multiplies with quantized weights keeps no copy of them, as it would of whole ones under autocast.
            kept = frozen if frozen != "bf16" else None
            return Variant(weights="bf16", autocast=True, lora=lora, bits=bits, kept=kept, checkpointing=checkpointing)
        if self.adapters == "lora":
            return Variant(weights=frozen or precision, autocast=autocast, lora=lora, checkpointing=checkpointing)
        return Variant(weights="fp32", autocast=autocast, checkpointing=checkpointing)

    def factors(self, num_gpus: int) -> np.ndarray:
        """Share of each measured part (`MEASURED`) that one GPU holds; the optimizer under ZeRO, and weights under its
        stage 3, are counted in `extra`."""
        gradients = 0.0 if self.offload_optimizer else 1 / num_gpus if self.zero_stage >= 2 else 1.0
        whole_weights = float(self.zero_stage < 3)
        return np.array([whole_weights, gradients, float(not self.zero_stage), 1.0, 1.0, whole_weights])

    def extra(self, workload: Workload, num_trained: int, num_weights: int, num_gpus: int) -> np.ndarray:
        """(phases, measured parts) bytes on each GPU beyond what a step on one GPU takes.

        Args:
            num_trained: trained weights of the whole model.
            num_weights: all weights of the whole model.
        """
        extra = np.zeros((len(PHASES), len(MEASURED)))
        size = 2 if workload.precision == "bf16" else 4
        if not self.zero_stage:
            if num_gpus > 1:  # DistributedDataParallel's buckets: a float32 copy of all gradients
                extra[:, _TEMPORARY] = 4 * num_trained
            return extra
        if not self.offload_optimizer:
            held = self.optimizer_bytes(workload) * num_trained / num_gpus
            extra[:, PARTS.index("optimizer")] = held
        extra[_BEFORE_UPDATE, _TEMPORARY] += size * min(num_trained, _REDUCE_BUCKET)
        if self.zero_stage == 3:
            extra[:, PARTS.index("weights")] = 0 if self.offload_weights else 4 * num_weights / num_gpus
            extra[_BEFORE_UPDATE, _TEMPORARY] += size * min(num_weights, _LIVE_WEIGHTS)
        return extra

    def host_bytes(self, workload: Workload, num_trained: int, num_weights: int) -> float:
        """Bytes in the memory of all nodes together."""
        if not self.offload_optimizer:
            return 0.0
        gradients = 4 * num_trained
        weights = 4 * num_weights if self.offload_weights else 0
        return self.optimizer_bytes(workload) * num_trained + gradients + weights

    def sent_bytes(self, workload: Workload, num_trained: int, num_weights: int, num_gpus: int, passes: int) -> float:
        """Bytes that each GPU sends in one optimizer step of `passes` forward and backward passes.

        A ring sends (n - 1) / n of a buffer to reduce-scatter it, and as much again to gather it.
        """
        ring = (num_gpus - 1) / num_gpus
        size = 2 if workload.precision == "bf16" else 4
        if not self.zero_stage:
            return 2 * ring * 4 * num_trained
        if self.zero_stage == 3:  # gather for each pass, forward and backward; reduce after each
            return ring * passes * size * (2 * num_weights + num_trained)
        return ring * num_trained * (4 + size * (passes if self.zero_stage == 2 else 1))  # updated weights in float32

    def refusal(self, workload: Workload) -> str | None:
        """Why the workload can't be trained so."""
        if workload.optim.name == "adamw8bit" and self.zero_stage:
            return "adamw8bit can't be shared out"
        return None

    def optimizer_bytes(self, workload: Workload) -> float:
        """Bytes per trained weight of the optimizer: its state, and a copy of the weight that it updates where ZeRO
        shares out the optimizer alone or puts it into the CPU's memory."""
        copy = 4 if self.offload_optimizer or self.zero_stage in (1, 2) else 0
        if workload.optim.name == "adamw":
            return copy + 8
        if workload.optim.name == "adamw8bit":
            return BYTES_PER_WEIGHT
        return copy + (0 if workload.optim.momentum == 0 else 4)


def all_strategies() -> list[Strategy]:
    """Every strategy, the simplest first, each without and with activation checkpointing."""
    plain = [
        Strategy(name="ddp"),
        Strategy(name="zero1", zero_stage=1),
        Strategy(name="zero2", zero_stage=2),
        Strategy(name="zero3", zero_stage=3),
        Strategy(name="zero2_offload", zero_stage=2, offload_optimizer=True),
        Strategy(name="zero3_offload", zero_stage=3, offload_optimizer=True, offload_weights=True),
        Strategy(name="lora", adapters="lora"),
        Strategy(name="qlora", adapters="qlora"),
    ]
    return [Strategy(**{**vars(way), "checkpointing": on}) for way in plain for on in (False, True)]
