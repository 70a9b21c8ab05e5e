"""Take the least important parts out of a model, or set its smallest weights to zero.

Structured pruning keeps, in each layer, the units that matter most. By `taylor` that is the mean over batches of
|sum of weight x gradient| over the weights that read the unit: the first-order change of the loss if the unit's value
became zero (Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning"; for heads Michel et al. 2019,
"Are Sixteen Heads Really Better than One?"). By `magnitude` it is the sum of |weight| that write it (Li et al. 2017,
"Pruning Filters for Efficient ConvNets").
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from hfscale.compression.pruning_units import Units, narrow, weighty_modules
from hfscale.errors import SettingsError

_EVEN = 8  # matrix units take multiples of it without padding


def magnitude_importance(model: nn.Module, units: list[Units]) -> list[Tensor]:
    """For each layer (units,) sums of the absolute weights and biases that write each unit."""
    state = model.state_dict()
    return [sum(_per_unit(part, state[part.tensor].abs()) for part in unit.writers) for unit in units]  # type: ignore[misc]


def taylor_importance(
    model: nn.Module,
    units: list[Units],
    batches: Iterable[dict[str, Any]],
    loss_fn: Callable[[nn.Module, dict[str, Any]], tuple[Tensor, int]],
) -> list[Tensor]:
    """For each layer (units,) estimates of how far the mean loss of a batch moves without the unit.

    Args:
        batches: inputs with labels, on the model's device.
        loss_fn: (model, inputs) -> (sum of the losses, number of targets).
    """
    model.eval().requires_grad_(False)
    readers = [model.get_parameter(unit.reader.tensor).requires_grad_() for unit in units]
    scores = [torch.zeros(unit.count(model.state_dict()), device=readers[0].device) for unit in units]
    for inputs in batches:
        loss, num_targets = loss_fn(model, inputs)
        gradients = torch.autograd.grad(loss / num_targets, readers)
        for score, unit, weight, gradient in zip(scores, units, readers, gradients, strict=True):
            score += _per_unit(unit.reader, weight.detach() * gradient).abs()
    model.requires_grad_(True)
    return scores


def choose(units: list[Units], importance: list[Tensor], sparsity: float) -> list[Tensor]:
    """Numbers of the units of each layer that stay, in their old order: the most important ones.

    Raises:
        SettingsError: where the sparsity is too small to take one out.
    """
    kept = [score.topk(num_kept(len(score), sparsity)).indices.sort().values for score in importance]
    if all(len(score) == len(stay) for score, stay in zip(importance, kept, strict=True)):
        raise SettingsError(f"--sparsity {sparsity} takes out none of {len(importance[0])} {units[0].kind}")
    return kept


def num_kept(count: int, sparsity: float) -> int:
    """How many of `count` stay, at least one; a multiple of 8 where there are enough of them."""
    step = _EVEN if count % _EVEN == 0 and count >= _EVEN * _EVEN else 1
    return max(1, round(count * (1 - sparsity) / step)) * step


def without_units(model: Any, units: list[Units], kept: list[Tensor]) -> Any:
    """A smaller model of the same class, built from its config alone, so that `from_pretrained` will build it too."""
    state = model.state_dict()
    for unit, stay in zip(units, kept, strict=True):
        for part in (*unit.writers, unit.reader):
            state[part.tensor] = part.keep(state[part.tensor], stay)
    config = copy.deepcopy(model.config)
    narrow(config, units, [len(stay) for stay in kept])
    smaller = type(model)(config).to(dtype=model.dtype, device=model.device)
    smaller.load_state_dict(state)
    return smaller.eval()


def zero_smallest(model: Any, sparsity: float) -> None:
    """Set the smallest weights to zero, in place, ranked over all layers between embeddings and head together."""
    weights = [(module, "weight") for module in weighty_modules(model).values()]
    prune.global_unstructured(weights, pruning_method=prune.L1Unstructured, amount=sparsity)
    for module, name in weights:
        prune.remove(module, name)


def zero_share(model: Any) -> float:
    """Share of zeros among the weights that `zero_smallest` ranks."""
    weights = [module.get_parameter("weight") for module in weighty_modules(model).values()]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


def _per_unit(part: Any, tensor: Tensor) -> Tensor:
    """(units,) sums over all that belongs to each."""
    view = part.of(tensor)
    return view.sum(dim=[dim for dim in range(view.ndim) if dim != part.dim + 1])
