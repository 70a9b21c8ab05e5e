"""Weights as their files have them, and which ones these lack."""

from __future__ import annotations

from typing import Any


def pretrained_model(model_class: Any, source: str, config: Any, options: dict[str, Any]) -> tuple[Any, set[str]]:
    """A model in float32, and the names of the weights that its files don't have or have in another shape.

    Args:
        model_class: an auto class of transformers.
        options: further ones of `from_pretrained`.
    """
    import torch

    model, info = model_class.from_pretrained(
        source,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **options,
    )
    return model, {str(key) for key in info["missing_keys"]} | {str(key[0]) for key in info["mismatched_keys"]}
