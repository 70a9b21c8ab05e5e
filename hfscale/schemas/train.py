"""The loop."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import Literal

from hfscale.schemas.checks import require

Tracker = Literal["tensorboard", "trackio", "wandb"]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The loop: how long, how large, how often, and where to."""

    output_dir: str
    """Run folder; must not hold another run."""
    seed: int = 0
    """Seed of the new weights, the order of the examples and dropout."""
    epochs: float | None = None
    """Passes over the training examples. Where neither this nor `max_steps` is given the recipe's own length holds:
    3 to fine-tune, 20 for the CNN and the RNN, 100 steps to pretrain."""
    max_steps: int | None = None
    """Optimizer steps, instead of `epochs`."""
    global_batch_size: int = 32
    """Examples per optimizer step, over all processes and accumulation steps."""
    micro_batch_size: int | None = None
    """Examples per forward pass on one process; by default the process's whole share of the global batch."""
    eval_batch_size: int = 64
    """Examples per forward pass of an evaluation on one process."""
    eval_steps: int | None = None
    """Optimizer steps between evaluations; by default once per epoch."""
    log_steps: int = 10
    """Optimizer steps between logged lines."""
    best_metric: str | None = None
    """Validation metric that decides which model is kept; by default the task's first one."""
    early_stop: int | None = None
    """Evaluations without a better model after which training stops."""
    precision: Literal["fp32", "bf16"] | None = None
    """Arithmetic of the forward pass; by default what `accelerate launch` was told, else fp32."""
    trackers: list[Tracker] | None = None
    """Experiment trackers to report to, beside metrics.jsonl."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "output_dir", os.path.expanduser(self.output_dir))
        require(
            self.epochs is None or self.max_steps is None,
            "--train.epochs and --train.max_steps were both given; choose one (`null` takes back a file's)",
        )
        require(0 <= self.seed < 2**31, f"--train.seed must be in [0, 2**31), got {self.seed}")
        require(self.epochs is None or 0 < self.epochs < math.inf, "--train.epochs must be greater than 0")
        for name in ("max_steps", "micro_batch_size", "eval_steps", "early_stop"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"--train.{name} must be at least 1, got {value}")
        for name in ("global_batch_size", "eval_batch_size", "log_steps"):
            require(getattr(self, name) >= 1, f"--train.{name} must be at least 1, got {getattr(self, name)}")


def with_length(train: TrainSettings, *, epochs: float | None = None, max_steps: int | None = None) -> TrainSettings:
    """The settings with a recipe's own length, where they give neither `epochs` nor `max_steps`."""
    given = train.epochs is not None or train.max_steps is not None
    return train if given else replace(train, epochs=epochs, max_steps=max_steps)
