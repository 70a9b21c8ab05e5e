"""What is to be trained, as far as memory and time depend on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from hfscale.schemas import LoraSettings, OptimSettings, Task

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One training run, without its weights and its data."""

    name: str
    """The model, for people."""
    config: Any
    """transformers' config of the model; it has the whole depth."""
    objective: Literal["causal", "masked", "seq2seq"] | Task
    """Language modelling of one of three kinds, or a classifier's task."""
    sequence_length: int
    """Tokens per sequence: that of the longest batch, which decides about memory. Of an encoder-decoder those that it
    reads."""
    global_batch_size: int
    """Sequences per optimizer step, over all GPUs and accumulation steps."""
    micro_batch_size: int | None = None
    """Sequences per forward pass on one GPU where a person has set it; else the largest that fits."""
    precision: Precision = "bf16"
    optim: OptimSettings = field(default_factory=OptimSettings)
    num_steps: int | None = None
    """Optimizer steps of the whole run; None where it is not known."""
    masked_fraction: float = 0.15
    """Share of the tokens that a masked language model predicts."""
    target_length: int | None = None
    """Tokens that an encoder-decoder is to write of each sequence."""
    label_smoothing: float = 0.0
    """Of an encoder-decoder's loss."""
    num_labels: int = 2
    """Outputs of a classifier."""
    trust_remote_code: bool = False
    lora: LoraSettings | None = None
    """The adapter that is to be trained; where there is none all ways to train are weighed."""
    bits: Literal[4, 8] | None = None
    """Bits of the frozen weights beside it, where they are quantized."""
    frozen: Precision | None = None
    """In what the whole weights beside an adapter are held; by default as they are computed with."""

    @property
    def is_language_model(self) -> bool:
        return self.objective in ("causal", "masked", "seq2seq")

    @property
    def tokens_per_sequence(self) -> int:
        """Those that are written counted, too."""
        return self.sequence_length + (self.target_length or 0)

    @property
    def lengths(self) -> str:
        """For people."""
        written = f" + {self.target_length:,}" if self.target_length else ""
        return f"{self.sequence_length:,}{written}"

    def num_targets(self, batch_size: int) -> int:
        """Positions of a micro-batch at which a language model predicts."""
        if self.objective == "masked":
            return max(1, round(batch_size * self.sequence_length * self.masked_fraction))
        if self.target_length is not None:
            return batch_size * self.target_length
        return batch_size * (self.sequence_length - 1)
