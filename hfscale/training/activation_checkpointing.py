"""Less memory for activations, for a second forward pass."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from hfscale.errors import SettingsError

if TYPE_CHECKING:
    from torch import nn


def checkpoint_activations(model: nn.Module) -> None:
    """Keep only each layer's input for the backward pass, and compute the rest once more there (Chen et al. 2016,
    "Training Deep Nets with Sublinear Memory Cost"). Losses and gradients keep their bits: dropout is repeated, too.

    Raises:
        SettingsError: for a model that can't.
    """
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise SettingsError(
            f"--train.activation_checkpointing has no effect: {type(model).__name__} keeps all activations; leave it "
            "out, or take a smaller --train.micro_batch_size"
        )
    # transformers had another name for it before 5.2x.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})  # type: ignore[operator]
    plain: Any = getattr(model, "get_base_model", lambda: model)()  # under an adapter
    body: Any = getattr(plain, "base_model", plain)
    if "use_cache" in inspect.signature(body.forward).parameters:
        body.register_forward_pre_hook(_without_cache, with_kwargs=True)


def _without_cache(body: nn.Module, args: Any, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Keys and values are kept for generation only; here the second pass would add them once more."""
    return args, {**inputs, "use_cache": False} if body.training else inputs
