"""The loss of a model that learns which of two answers is preferred."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import nn


class PreferenceLoss:
    """Direct preference optimization (Rafailov et al. 2023, arXiv:2305.18290, equation 7): minus the logarithm of
    sigmoid(`preference_margins`), summed over pairs, and the number of pairs; a `LossFn`."""

    def __init__(self, beta: float) -> None:
        self._beta = beta

    def __call__(self, model: nn.Module, inputs: dict[str, Any]) -> tuple[Tensor, int]:
        """(scalar, pairs)."""
        margins = preference_margins(model, inputs, self._beta)
        return -F.logsigmoid(margins).sum(), len(margins)

    @staticmethod
    def num_targets(inputs: dict[str, Any]) -> int:
        """Pairs of a batch."""
        return len(inputs["labels"])


def preference_margins(model: nn.Module, inputs: dict[str, Any], beta: float) -> Tensor:
    """(pairs,) how much more the model has come to favour the chosen answer than the rejected one: `beta` times the
    difference of what their log probabilities have gained on those of the model without its adapter.

    Args:
        inputs: of rows with two pieces, chosen and rejected (`hfscale.data.pair_preferences`).
    """
    with torch.no_grad(), without_adapter(model):
        before = log_probabilities(model, inputs)
    gain = log_probabilities(model, inputs) - before
    return beta * (gain[:, 0] - gain[:, 1])


def log_probabilities(model: nn.Module, inputs: dict[str, Any]) -> Tensor:
    """(pairs, 2) float32 logarithms of the probabilities of the two answers of each row, summed over their tokens."""
    is_target = inputs["labels"] != -100
    losses = model(**inputs, per_target=True)
    rows = torch.arange(len(is_target), device=losses.device)[:, None].expand_as(is_target)
    answers = (2 * rows + inputs["piece_ids"] - 1)[is_target]
    sums = torch.zeros(2 * len(is_target), device=losses.device).index_add(0, answers, -losses)
    return sums.view(-1, 2)


@contextlib.contextmanager
def without_adapter(model: nn.Module) -> Generator[None]:
    """The model as it was before any training, in eval mode: what its adapter and its dropout do is switched off."""
    plain: Any = model
    while not hasattr(plain, "disable_adapter"):  # inside of what shares it out
        plain = plain.module
    training = plain.training
    plain.eval()
    try:
        with plain.disable_adapter():
            yield
    finally:
        plain.train(training)
