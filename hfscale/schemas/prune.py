"""How a model is pruned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from hfscale.schemas.checks import require

PruneMethod = Literal["structured", "magnitude"]
Importance = Literal["taylor", "magnitude"]


@dataclass(frozen=True, kw_only=True)
class PruneSettings:
    """What is taken out of a model, and how it is chosen."""

    method: PruneMethod
    """`structured` removes whole neurons, heads or filters; `magnitude` sets single weights to zero."""
    sparsity: float
    """Share of them that goes, between 0 and 1."""
    importance: Importance | None = None
    """What tells the neurons that stay, for `structured`: `taylor` (the default) or `magnitude`."""
    examples: int = 512
    """Training examples that `taylor` looks at."""

    def __post_init__(self) -> None:
        known = " and ".join(get_args(PruneMethod))
        require(
            self.method != "movement",  # type: ignore[comparison-overlap]
            f"--method movement (pruning while training goes on) is not there; there are {known}",
        )
        require(self.method in get_args(PruneMethod), f"--method {self.method} is not known; there are {known}")
        require(0 < self.sparsity < 1, f"--sparsity must be between 0 and 1, got {self.sparsity}")
        require(
            self.importance is None or self.importance in get_args(Importance),
            f"--importance {self.importance} is not known; there are {' and '.join(get_args(Importance))}",
        )
        require(
            self.importance is None or self.method == "structured",
            "--importance has no effect on --method magnitude, which looks at the weights alone; leave it out",
        )
        require(self.examples >= 1, f"--examples must be at least 1, got {self.examples}")
        require(
            self.looks_at_data or self.examples == 512,
            "--examples has no effect where no training examples are looked at; leave it out",
        )

    @property
    def looks_at_data(self) -> bool:
        """Whether the choice needs training examples."""
        return self.method == "structured" and self.importance != "magnitude"
