"""The loss of language models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


def language_model_loss(model: nn.Module, inputs: dict[str, Any]) -> tuple[Tensor, int]:
    """Cross entropy of a language model that returns its sum where it is given `labels`, (batch, seq) with -100 where
    nothing is to be predicted (`hfscale.models.prepare_language_model`), and the number of targets."""
    return model(**inputs), int((inputs["labels"] != -100).sum())
