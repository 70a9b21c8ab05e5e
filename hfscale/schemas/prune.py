"""How a model is pruned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from hfscale.schemas.checks import require

PruneMethod = Literal["structured", "magnitude", "movement"]
Importance = Literal["taylor", "magnitude"]


@dataclass(frozen=True, kw_only=True)
class PruneSettings:
    """What is taken out of a model, and how it is chosen."""

    method: PruneMethod
    """`structured` removes whole neurons, heads or filters; `magnitude` sets the smallest weights to zero, `movement`
    those that training moves towards zero."""
    sparsity: float
    """Share of them that goes, between 0 and 1."""
    importance: Importance | None = None
    """What tells the neurons that stay, for `structured`: `taylor` (the default) or `magnitude`."""
    examples: int = 512
    """Training examples that `taylor` looks at."""
    epochs: float | None = None
    """Passes over the training examples in which `movement` learns what goes; 3 by default."""

    def __post_init__(self) -> None:
        known = ", ".join(get_args(PruneMethod))
        require(self.method in get_args(PruneMethod), f"--method {self.method} is not known; there are {known}")
        require(0 < self.sparsity < 1, f"--sparsity must be between 0 and 1, got {self.sparsity}")
        require(
            self.importance is None or self.importance in get_args(Importance),
            f"--importance {self.importance} is not known; there are {' and '.join(get_args(Importance))}",
        )
        require(
            self.importance is None or self.method == "structured",
            f"--importance has no effect on --method {self.method}, which chooses single weights; leave it out",
        )
        require(self.examples >= 1, f"--examples must be at least 1, got {self.examples}")
        require(
            self.by_taylor or self.examples == 512,
            "--examples has no effect but for --importance taylor; leave it out",
        )
        require(
            self.epochs is None or self.method == "movement",
            f"--epochs has no effect on --method {self.method}, which trains nothing; leave it out",
        )
        require(self.epochs is None or 0 < self.epochs < float("inf"), "--epochs must be greater than 0")

    @property
    def by_taylor(self) -> bool:
        """Whether the effect on the loss of training examples decides."""
        return self.method == "structured" and self.importance != "magnitude"

    @property
    def default_epochs(self) -> float:
        """How long `movement` trains where nothing is said: as long as `finetune_bert.py`."""
        return 3.0

    @property
    def needs_data(self) -> str | None:
        """The setting that can't do without training examples, if any."""
        if self.method == "movement":
            return "--method movement"
        return "--importance taylor" if self.by_taylor else None
