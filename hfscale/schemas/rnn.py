"""The shape of a recurrent network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hfscale.schemas.checks import require


@dataclass(frozen=True, kw_only=True)
class RnnSettings:
    """A recurrent network, its weights drawn at random."""

    cell: Literal["lstm", "gru"] = "lstm"
    """Recurrent cell; a GRU has a quarter fewer weights."""
    embedding_size: int = 128
    """Width of a token's vector."""
    hidden_size: int = 128
    """Width of the states, in each direction."""
    num_layers: int = 1
    """Recurrent layers."""
    bidirectional: bool = True
    """Read each text backwards, too."""
    dropout: float = 0.5
    """Dropout on the embeddings, between layers and before the head."""

    def __post_init__(self) -> None:
        for name in ("embedding_size", "hidden_size", "num_layers"):
            require(getattr(self, name) >= 1, f"--model.{name} must be at least 1, got {getattr(self, name)}")
        require(0 <= self.dropout < 1, f"--model.dropout must be in [0, 1), got {self.dropout}")

    @property
    def title(self) -> str:
        """`bidirectional LSTM`, for people."""
        return f"{'bidirectional ' if self.bidirectional else ''}{self.cell.upper()}"
