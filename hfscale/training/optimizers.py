"""Optimizers with weight decay on weight matrices only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hfscale.errors import MissingExtraError
from hfscale.schemas import OptimSettings

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


def build_optimizer(model: nn.Module, settings: OptimSettings) -> Optimizer:
    """AdamW (Loshchilov and Hutter 2019) or SGD over the trainable parameters; AdamW's state in 8 bits, too
    (Dettmers et al. 2022).

    Vectors (biases, the scales of norms, the factors of IA3 whatever their shape) are never decayed: they don't
    overfit, and pulling them to zero only biases the model. AdamW runs fused: one pass over each parameter instead of
    about ten.
    """
    import torch

    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    vectors = {parameter for name, parameter in trained if parameter.ndim < 2 or ".ia3_" in name}
    groups = [
        {"params": [p for _, p in trained if p not in vectors], "weight_decay": settings.weight_decay},
        {"params": [p for _, p in trained if p in vectors], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.name != "sgd":
        betas, eps = settings.betas or (0.9, 0.999), settings.eps if settings.eps is not None else 1e-8
        if settings.name == "adamw8bit":
            return _bitsandbytes().optim.AdamW8bit(groups, lr=settings.lr, betas=betas, eps=eps)
        return torch.optim.AdamW(groups, lr=settings.lr, betas=betas, eps=eps, fused=True)
    momentum = 0.9 if settings.momentum is None else settings.momentum
    return torch.optim.SGD(groups, lr=settings.lr, momentum=momentum, nesterov=settings.nesterov)


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes
    except ImportError:
        raise MissingExtraError("--optim.name adamw8bit needs bitsandbytes: pip install 'hfscale[quant]'") from None
    return bitsandbytes
