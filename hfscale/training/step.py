"""One optimizer step: forward and backward over the micro-batches, the exact mean gradient, clipping, update."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from accelerate.utils import send_to_device

from hfscale import interruption, watchdog
from hfscale.errors import DivergedError, Interrupted
from hfscale.training import fsdp

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

    from hfscale.batch import Batch
    from hfscale.training.losses import LossFn


class StepStats(NamedTuple):
    """What one optimizer step did, summed over micro-batches and processes."""

    loss: float
    """Mean loss per target."""
    grad_norm: float
    """Norm of the mean gradient, before clipping."""
    num_examples: int
    num_tokens: int
    save: bool = False
    """Whether a process wished to save."""
    stop: bool = False
    """Whether a process was told to stop."""


def train_step(
    accelerator: Accelerator,
    model: torch.nn.Module,
    optimizer: AcceleratedOptimizer,
    micro_batches: Sequence[Batch],
    loss_fn: LossFn,
    max_grad_norm: float | None,
    wish_to_save: bool = False,
    before_update: Callable[[], None] = lambda: None,
) -> StepStats:
    """Learn from one global batch. The gradient is that of (sum of losses / number of targets), however it is split.

    Args:
        before_update: called right before the weights change.

    Raises:
        DivergedError: where the loss or the gradient is not finite; the weights are left as they were.
        Interrupted: between two micro-batches, where a process was told to stop; likewise.
    """
    # loss, targets, examples, tokens; processes that wish to save, that were told to stop
    sums = torch.zeros(6, dtype=torch.float64, device=accelerator.device)
    for number, batch in enumerate(micro_batches, start=1):
        # Gradients travel between processes once, with the last micro-batch.
        with nullcontext() if number == len(micro_batches) else accelerator.no_sync(model):
            inputs: Any = send_to_device(batch.inputs, accelerator.device)
            loss, num_targets = loss_fn(model, inputs)
            if not batch.num_examples:
                loss, num_targets = loss * 0.0, 0
            accelerator.backward(loss)
        sums[:4] += torch.tensor([0, num_targets, batch.num_examples, batch.num_tokens], device=sums.device)
        sums[0] += loss.detach()
        if number < len(micro_batches):
            _stop_between(accelerator, optimizer)
    sums[4:] = torch.tensor([wish_to_save, interruption.asked() is not None], device=sums.device)
    loss_sum, num_targets, num_examples, num_tokens, save, stop = all_sum(accelerator, sums)
    grad_norm = _mean_and_clip(accelerator, model, num_targets, max_grad_norm)
    loss_value = loss_sum / max(1.0, num_targets)
    if not (math.isfinite(loss_value) and math.isfinite(grad_norm)):
        optimizer.zero_grad()
        raise DivergedError(f"the loss is {loss_value}, the gradient's norm {grad_norm}")
    before_update()
    optimizer.step()
    optimizer.zero_grad()
    watchdog.pet()
    return StepStats(loss_value, grad_norm, int(num_examples), int(num_tokens), save > 0, stop > 0)


def _stop_between(accelerator: Accelerator, optimizer: AcceleratedOptimizer) -> None:
    """Leave a step whose gradient is not complete, where a process was told to stop."""
    try:
        interruption.check(accelerator)
    except Interrupted:
        optimizer.zero_grad()
        raise


def all_sum(accelerator: Accelerator, values: torch.Tensor | Sequence[float]) -> list[float]:
    """Each of the numbers summed over all processes."""
    sums = torch.as_tensor(values, dtype=torch.float64, device=accelerator.device)
    total: Any = accelerator.reduce(sums, reduction="sum")
    return total.tolist()  # waits for the device: the step is done when its numbers are known


def _mean_and_clip(
    accelerator: Accelerator, model: torch.nn.Module, num_targets: float, max_grad_norm: float | None
) -> float:
    """Turn the gradient of the sum into that of the mean, clip it, and return the norm before clipping.

    DistributedDataParallel has averaged over the processes, which is undone here, so that only the number of targets
    in the whole global batch divides. `fit` builds no gradient accumulation into the accelerator, which would divide
    once more.
    """
    grads = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    to_mean = accelerator.num_processes / max(1.0, num_targets)
    norm = fsdp.whole(torch.nn.utils.get_total_norm(grads)).item() * to_mean
    clip = min(1.0, max_grad_norm / (norm + 1e-6)) if max_grad_norm else 1.0
    torch._foreach_mul_(grads, to_mean * clip)  # pyright: ignore[reportPrivateImportUsage]
    return norm
