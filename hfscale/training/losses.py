"""Losses as sums with the number of targets they run over; `fit` divides, over the whole global batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hfscale.batch import NO_LABEL
from hfscale.schemas import Task

if TYPE_CHECKING:
    from torch import Tensor, nn

LossFn = Callable[["nn.Module", dict[str, Any]], tuple["Tensor", int]]
"""(model, inputs) -> (sum of the losses of all targets, number of targets). One whose targets are not the `labels` of
its inputs has a method `num_targets` of the inputs, for who has to know the number beforehand."""


def classification_loss(task: Task, label_smoothing: float = 0.0) -> LossFn:
    """The loss of a classifier of texts, of their words, or of the ends of an answer, on inputs that hold `labels`.

    Cross entropy over (batch, classes) logits with (batch,) class numbers; binary cross entropy with (batch,
    classes) zeros and ones, each of them a target; squared error of (batch, 1) outputs with (batch,) numbers; cross
    entropy over (batch, tokens, classes) with (batch, tokens) class numbers, -100 where there is no target; and over
    the tokens of (batch, tokens, 2) with (batch, 2) positions of an answer's first and last token, two targets each.
    Divided by the number of targets each equals the loss that transformers computes for the same task, except that a
    span is never sought in the padding, whose width depends on the other rows of the batch.

    `label_smoothing` spreads that share of a single class over all classes (Szegedy et al. 2016, section 7).
    """

    def loss_fn(model: nn.Module, inputs: dict[str, Any]) -> tuple[Tensor, int]:
        labels = inputs["labels"]
        logits = logits_of(task, model, inputs)
        num_targets = int((labels != NO_LABEL).sum()) if task == "token_classification" else labels.numel()
        return loss_sum(task, logits, labels, label_smoothing), num_targets

    return loss_fn


def logits_of(task: Task, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
    """(batch, ..., outputs) logits of a forward pass without `labels`; for spans float32, minus infinity in the
    padding."""
    import torch

    output = model(**{name: value for name, value in inputs.items() if name != "labels"})
    if task != "question_answering":
        return output.logits
    logits = torch.stack((output.start_logits, output.end_logits), dim=-1).float()
    return logits.masked_fill(inputs["attention_mask"][..., None] == 0, float("-inf"))


def loss_sum(task: Task, logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Sum over all targets, in float32 whatever the precision of the logits."""
    from torch.nn import functional as F

    logits = logits.float()
    if task == "single_label_classification":
        return F.cross_entropy(logits, labels, reduction="sum", label_smoothing=label_smoothing)
    if task == "multi_label_classification":
        return F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="sum")
    if task == "token_classification":
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=NO_LABEL, reduction="sum")
    if task == "question_answering":
        return F.cross_entropy(logits, labels, reduction="sum")
    return F.mse_loss(logits.squeeze(-1), labels.float(), reduction="sum")
