"""Training a small adapter instead of all weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hfscale.schemas.checks import require

AdapterMethod = Literal["lora", "rslora", "dora", "pissa", "ia3", "prompt"]
_BESIDE_LAYERS = ("r", "alpha", "dropout", "targets")
_TOKENS = 20


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Freeze the model, and train a small adapter and the head: `--lora.r 8`. Needs the extra `peft`."""

    method: AdapterMethod = "lora"
    """LoRA; with a scale for high ranks (rslora), with learned magnitudes (dora), begun from the principal components
    of the weights (pissa); one factor per activation instead of matrices (ia3); or, of a language model, embeddings
    that every text begins with (prompt)."""
    r: int | None = None
    """Rank of the two matrices beside each layer; 8 by default."""
    alpha: float | None = None
    """Scale of the adapter's output, which is multiplied by alpha / r (rslora: by alpha / sqrt(r)); 2 r by default."""
    dropout: float | None = None
    """Dropout of the adapter's input in training; none by default."""
    targets: list[str] | None = field(default=None, hash=False)
    """Names, or last parts of names, of the layers that get an adapter; by default all linear ones but the head's
    (ia3: keys, values and the feed-forward ones)."""
    tokens: int | None = None
    """Embeddings of a trained prompt; 20 by default. They count in `data.max_length`."""

    def __post_init__(self) -> None:
        require(self.r is None or self.r >= 1, f"--lora.r must be at least 1, got {self.r}")
        require(self.alpha is None or self.alpha > 0, f"--lora.alpha must be greater than 0, got {self.alpha}")
        require(0 <= (self.dropout or 0) < 1, f"--lora.dropout must be in [0, 1), got {self.dropout}")
        require(self.targets is None or len(self.targets) > 0, "--lora.targets is empty; leave it out for the usual")
        require(self.tokens is None or self.tokens >= 1, f"--lora.tokens must be at least 1, got {self.tokens}")
        idle = _BESIDE_LAYERS if self.method in ("ia3", "prompt") else ()
        for name in (*idle, *(("tokens",) if self.method != "prompt" else ())):
            require(
                getattr(self, name) is None,
                f"--lora.{name} has no effect with --lora.method {self.method}; leave it out",
            )


def num_soft_tokens(lora: LoraSettings | None) -> int:
    """How many embeddings of a prompt every document begins with; 0 without prompt tuning."""
    return (lora.tokens or _TOKENS) if lora is not None and lora.method == "prompt" else 0
