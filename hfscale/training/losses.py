"""Losses as sums with the number of targets they run over; `fit` divides, over the whole global batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hfscale.schemas import ProblemType

if TYPE_CHECKING:
    from torch import Tensor, nn

LossFn = Callable[["nn.Module", dict[str, Any]], tuple["Tensor", int]]
"""(model, inputs) -> (sum of the losses of all targets, number of targets)."""


def classification_loss(problem_type: ProblemType) -> LossFn:
    """The loss of a sequence classifier on inputs that hold `labels`.

    Cross entropy over (batch, classes) logits with (batch,) class numbers; binary cross entropy with (batch,
    classes) zeros and ones, each of them a target; squared error of (batch, 1) outputs with (batch,) numbers.
    Divided by the number of targets each equals the loss that transformers computes for the same `problem_type`.
    """

    def loss_fn(model: nn.Module, inputs: dict[str, Any]) -> tuple[Tensor, int]:
        labels = inputs["labels"]
        logits = model(**{name: value for name, value in inputs.items() if name != "labels"}).logits
        return loss_sum(problem_type, logits, labels), labels.numel()

    return loss_fn


def loss_sum(problem_type: ProblemType, logits: Tensor, labels: Tensor) -> Tensor:
    """Sum over all targets, in float32 whatever the precision of the logits."""
    from torch.nn import functional as F

    logits = logits.float()
    if problem_type == "single_label_classification":
        return F.cross_entropy(logits, labels, reduction="sum")
    if problem_type == "multi_label_classification":
        return F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="sum")
    return F.mse_loss(logits.squeeze(-1), labels.float(), reduction="sum")
