"""How the ways to make a trained model smaller are compared."""

from __future__ import annotations

from dataclasses import dataclass

from hfscale.schemas.checks import require


@dataclass(frozen=True, kw_only=True)
class CompressSettings:
    """What `hfscale compress` tries, and on how much of the run's validation data."""

    sparsities: tuple[float, ...] = (0.25, 0.5)
    """Shares of neurons or filters that are pruned; none for no pruning."""
    base: str | None = None
    """The full-precision model that an adapter was trained on: folder, Hub id or `builtin:` name."""
    tolerance: float = 1.0
    """Points of the main metric that a recommended choice may cost: hundredths; of BLEU and chrF whole ones; of a loss
    percent of it."""
    examples: int = 1_000
    """The most validation examples that are looked at."""
    batch_size: int = 16
    """Examples per forward pass where throughput and metrics are measured."""

    def __post_init__(self) -> None:
        for sparsity in self.sparsities:
            require(0 < sparsity < 1, f"--sparsity must be between 0 and 1, got {sparsity}")
        require(len(set(self.sparsities)) == len(self.sparsities), "--sparsity names the same share twice")
        require(
            0 <= self.tolerance < float("inf"), f"--tolerance must be a number of at least 0, got {self.tolerance}"
        )
        require(self.examples >= 1, f"--examples must be at least 1, got {self.examples}")
        require(self.batch_size >= 1, f"--batch_size must be at least 1, got {self.batch_size}")
