"""Which model."""

from __future__ import annotations

from dataclasses import dataclass

from hfscale.schemas.checks import require


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Which model to start from."""

    name: str
    """Hub id, local folder, or `builtin:minilm` (the small BERT of the `quickstart` extra)."""
    revision: str | None = None
    """Branch, tag or commit of a Hub model."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model; only for authors you trust."""


@dataclass(frozen=True, kw_only=True)
class ClassifierModelSettings(ModelSettings):
    """Which model to start from, or to take the shape of."""

    random_weights: bool = False
    """Keep architecture and tokenizer, draw all weights anew: the baseline that shows what pretraining is worth."""
    dropout: float | None = None
    """Dropout of all layers in training; by default what the model's config says, which is none for models that
    pretrain_bert.py made."""

    def __post_init__(self) -> None:
        require(0 <= (self.dropout or 0) < 1, f"--model.dropout must be in [0, 1), got {self.dropout}")
