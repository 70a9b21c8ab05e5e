"""The optimizer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from hfscale.schemas.checks import require


@dataclass(frozen=True, kw_only=True)
class OptimSettings:
    """The optimizer and the learning rate as a function of the step."""

    name: Literal["adamw", "adamw8bit", "sgd"] = "adamw"
    """Optimizer; with a `weight_decay` of 0, adamw is Adam. adamw8bit holds its state in 8 bits (extra `quant`)."""
    lr: float = 5e-5
    """Peak learning rate."""
    weight_decay: float = 0.01
    """Decay of weight matrices; biases and norms are never decayed."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """Shape after the warm-up; linear and cosine end at zero."""
    warmup_steps: float = 0.06
    """Optimizer steps of linear warm-up; below 1, a fraction of the run."""
    max_grad_norm: float | None = 1.0
    """Largest norm of the whole gradient, longer ones are scaled down; null for no clipping."""
    betas: tuple[float, float] | None = None
    """AdamW's two decay rates; (0.9, 0.999) by default."""
    eps: float | None = None
    """AdamW's denominator term; 1e-8 by default."""
    momentum: float | None = None
    """SGD's momentum; 0.9 by default."""
    nesterov: bool = False
    """Nesterov's form of SGD's momentum."""

    def __post_init__(self) -> None:
        require(0 < self.lr < math.inf, f"--optim.lr must be greater than 0, got {self.lr}")
        require(
            0 <= self.weight_decay < math.inf, f"--optim.weight_decay must not be negative, got {self.weight_decay}"
        )
        require(all(0 <= beta < 1 for beta in self.betas or ()), f"--optim.betas must be in [0, 1), got {self.betas}")
        require(self.eps is None or 0 < self.eps < math.inf, f"--optim.eps must be greater than 0, got {self.eps}")
        require(0 <= (self.momentum or 0) < 1, f"--optim.momentum must be in [0, 1), got {self.momentum}")
        require(
            self.warmup_steps >= 0 and (self.warmup_steps < 1 or float(self.warmup_steps).is_integer()),
            f"--optim.warmup_steps must be a whole number of steps or a fraction below 1, got {self.warmup_steps}",
        )
        require(
            self.max_grad_norm is None or self.max_grad_norm > 0,
            "--optim.max_grad_norm must be greater than 0; null turns clipping off",
        )
        foreign = {
            "adamw": {"momentum": self.momentum is not None, "nesterov": self.nesterov},
            "adamw8bit": {"momentum": self.momentum is not None, "nesterov": self.nesterov},
            "sgd": {"betas": self.betas is not None, "eps": self.eps is not None},
        }[self.name]
        for name, given in foreign.items():
            require(not given, f"--optim.{name} has no effect with --optim.name {self.name}; leave it out")
        require(not (self.nesterov and self.momentum == 0), "--optim.nesterov needs --optim.momentum greater than 0")
