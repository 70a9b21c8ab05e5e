"""The loop."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields, replace
from typing import Literal

from hfscale.schemas.checks import require
from hfscale.schemas.hub import HubSettings

Tracker = Literal["tensorboard", "trackio", "wandb"]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The loop: how long, how large, how often, and where to."""

    output_dir: str
    """Run folder. One that holds this very run, interrupted, is gone on with; another run is refused."""
    seed: int = 0
    """Seed of the new weights, the order of the examples and dropout."""
    epochs: float | None = None
    """Passes over the training examples. Where neither this nor `max_steps` is given the recipe's own length holds:
    3 to fine-tune, 1 to align, 20 for the CNN and the RNN, 100 steps to pretrain."""
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
    save_steps: int | None = None
    """Optimizer steps between checkpoints; by default they are made by the clock (`save_minutes`)."""
    save_minutes: float | None = None
    """Minutes between checkpoints; 10 by default, where `save_steps` is not given."""
    save_in_background: bool = False
    """Write checkpoints while training goes on; takes memory for a second copy of weights and optimizer."""
    keep_checkpoints: int = 2
    """Checkpoints that are kept, the newest ones; the best model is kept beside them."""
    resume: str = "auto"
    """What to go on from: `auto` for the newest valid checkpoint of this run, `never`, or the folder of another run or
    of one of its checkpoints, for a run that has none of its own yet."""
    allow_changes: list[str] | None = None
    """Settings that may differ from those of the checkpoint, as in `[optim.lr, train.max_steps]`: without this,
    everything that changes the mathematics is refused."""
    stall_seconds: float | None = 1800.0
    """Seconds in which no forward pass was finished and no file written, after which the stacks of all processes are
    shown and the run ends; null for no limit. Has to be longer than a checkpoint takes: the others wait for it."""
    best_metric: str | None = None
    """Validation metric that decides which model is kept, a tie by the lower loss; by default the task's first one."""
    early_stop: int | None = None
    """Evaluations without a better `best_metric` after which training stops."""
    precision: Literal["fp32", "bf16"] | None = None
    """Arithmetic of the forward pass; by default what `accelerate launch` was told, else fp32."""
    activation_checkpointing: bool = False
    """Keep only the inputs of the layers for the backward pass and compute the rest anew: a fraction of the memory for
    activations for a second forward pass, the same losses."""
    preflight: bool = True
    """Before training, compare the predicted peak memory with what there is, and show an example as the model gets
    it."""
    trackers: list[Tracker] | None = None
    """Experiment trackers to report to, beside metrics.jsonl."""

    def __post_init__(self) -> None:
        for name in ("output_dir", "resume"):
            object.__setattr__(self, name, os.path.expanduser(getattr(self, name)))
        require(
            self.epochs is None or self.max_steps is None,
            "--train.epochs and --train.max_steps were both given; choose one (`null` takes back a file's)",
        )
        require(0 <= self.seed < 2**31, f"--train.seed must be in [0, 2**31), got {self.seed}")
        require(self.epochs is None or 0 < self.epochs < math.inf, "--train.epochs must be greater than 0")
        require(
            self.save_steps is None or self.save_minutes is None,
            "--train.save_steps and --train.save_minutes were both given; choose one (`null` takes back a file's)",
        )
        for name in ("save_minutes", "stall_seconds"):
            value = getattr(self, name)
            require(value is None or 0 < value < math.inf, f"--train.{name} must be greater than 0, got {value}")
        for name in ("max_steps", "micro_batch_size", "eval_steps", "save_steps", "early_stop"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"--train.{name} must be at least 1, got {value}")
        for name in ("global_batch_size", "eval_batch_size", "log_steps", "keep_checkpoints"):
            require(getattr(self, name) >= 1, f"--train.{name} must be at least 1, got {getattr(self, name)}")


NEUTRAL = frozenset(
    {
        "baselines",
        "model.trust_remote_code",
        *(
            "hub",
            *(f"hub.{each.name}" for each in fields(HubSettings)),
        ),
        *(f"samples.{name}" for name in ("prompts", "max_new_tokens", "temperature")),
        *(
            f"train.{name}"
            for name in (
                *("output_dir", "micro_batch_size", "eval_batch_size", "log_steps", "trackers", "stall_seconds"),
                *("activation_checkpointing", "preflight"),
                *("save_steps", "save_minutes", "save_in_background", "keep_checkpoints", "resume", "allow_changes"),
            )
        ),
    }
)
"""Settings that leave the mathematics of a run as it is: a run that goes on may change them."""


def with_length(train: TrainSettings, *, epochs: float | None = None, max_steps: int | None = None) -> TrainSettings:
    """The settings with a recipe's own length, where they give neither `epochs` nor `max_steps`."""
    given = train.epochs is not None or train.max_steps is not None
    return train if given else replace(train, epochs=epochs, max_steps=max_steps)
