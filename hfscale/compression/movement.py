"""Movement pruning (Sanh, Wolf & Rush 2020, https://arxiv.org/abs/2005.07683): weights that training moves towards
zero go, whatever their size.

Every weight has a score, which learns beside it. Of each matrix the weights with the highest scores take part in the
forward pass; the scores get the gradient as if the choice were no choice (a straight-through estimator), which is the
weight times the gradient of what takes its place. The share that goes rises with a cube (Zhu & Gupta 2017,
https://arxiv.org/abs/1710.01878).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from hfscale.compression.pruning_units import weighty_modules

_BEGIN, _END = 0.1, 0.7
"""Of the steps: where weights begin to go, and where all have gone. Behind that the choice may still change."""


def sparsity_at(step: int, total_steps: int, final: float) -> float:
    """Share of the weights that is left out of optimizer step `step` (from 0): 0 at first, rising to `final`."""
    done = (step / max(1, total_steps) - _BEGIN) / (_END - _BEGIN)
    return final * (1 - (1 - min(1.0, max(0.0, done))) ** 3)


class Movement(nn.Module):
    """In front of a weight: its scores, and which of its numbers take part."""

    kept: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros_like(weight))
        self.register_buffer("kept", torch.ones_like(weight), persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        return _StraightThrough.apply(weight, self.scores, self.kept)

    @torch.no_grad()
    def leave_out(self, sparsity: float) -> None:
        """Choose anew: so many of the lowest scores go."""
        number = round(self.scores.numel() * sparsity)
        self.kept.fill_(1)
        if number:
            self.kept.view(-1)[self.scores.flatten().topk(number, largest=False, sorted=False).indices] = 0


class _StraightThrough(torch.autograd.Function):
    """weight x kept; the scores get the gradient that `kept` would."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scores: Tensor, kept: Tensor) -> Tensor:
        ctx.save_for_backward(weight, kept)
        return weight * kept

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        weight, kept = ctx.saved_tensors
        return gradients[0] * kept, gradients[0] * weight, None


class MovementPruning:
    """Scores on the linear layers and convolutions between a model's embeddings and its head.

    Args:
        final: share of each layer's weights that goes in the end.
    """

    def __init__(self, model: Any, final: float) -> None:
        self._model, self._final, self._layers = model, final, weighty_modules(model)
        self._scored: list[Movement] = []
        for layer in self._layers.values():
            self._scored.append(Movement(layer.get_parameter("weight")))
            parametrize.register_parametrization(layer, "weight", self._scored[-1])

    def during(self, batches: Any, total_steps: int) -> Any:
        """The batches; whoever asks for those of a step gets the choice for it, by its number and the scores alone."""
        return _Watched(batches, total_steps, self)

    def learn_with(self, optimizer: torch.optim.Optimizer) -> None:
        """Have the scores learn by plain gradient descent at the rate of the weights, whatever their optimizer.

        That makes a score the sum of -weight x gradient. Adam would divide each by its own size, so that in a short
        training the noise of weights that don't matter counts as much as what others do to the loss.
        """
        scores = {id(each.scores) for each in self._scored}

        @torch.no_grad()
        def descend(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if id(parameter) in scores and parameter.grad is not None:
                        parameter.sub_(parameter.grad, alpha=group["lr"])
                        parameter.grad = None  # the optimizer passes over it, and keeps no moments

        optimizer.register_step_pre_hook(descend)

    def leave_out(self, sparsity: float) -> None:
        """Choose what takes part from now on."""
        for each in self._scored:
            each.leave_out(sparsity)

    def finish(self) -> None:
        """Make the model a plain one, with zeros in place of what has gone."""
        self.leave_out(self._final)
        for layer in self._layers.values():
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


class _Watched:
    """Batches of which somebody has to know which step is next."""

    def __init__(self, batches: Any, total_steps: int, pruning: MovementPruning) -> None:
        self._batches, self._total, self._pruning = batches, total_steps, pruning
        self.steps_per_epoch, self.fingerprint = batches.steps_per_epoch, batches.fingerprint

    def __getitem__(self, step: int) -> Any:
        self._pruning.leave_out(sparsity_at(step, self._total, self._pruning._final))
        return self._batches[step]
