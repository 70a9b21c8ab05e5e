"""What a strategy changes in a model before it is measured: adapters, and which layers are held in few bits."""

from __future__ import annotations

import dataclasses
import importlib.util
import warnings
from typing import Any

from torch import nn

from hfscale.models.adapters import adapter_config, linear_layers
from hfscale.models.heads import heads_of
from hfscale.models.soft_tokens import embed_soft_tokens
from hfscale.schemas import LoraSettings, num_soft_tokens


def has_peft() -> bool:
    """Whether LoRA can be measured."""
    return importlib.util.find_spec("peft") is not None


def add_adapter(model: Any, settings: LoraSettings, train_head: bool) -> None:
    """Freeze a model, which may be on the meta device, and put the adapter beside the layers that recipes put it.

    Args:
        train_head: keep what stands on top of the body trainable: a classifier's new head.

    Raises:
        MissingExtraError: where peft is not installed.
        ModelError, SettingsError: where the adapter doesn't fit the model.
    """
    if settings.method == "prompt":
        return _add_prompt(model, num_soft_tokens(settings))
    heads = heads_of(model)
    if settings.method == "pissa":  # begins from weights, of which there are none here, and is as large as
        settings = dataclasses.replace(settings, method="lora")
    config = adapter_config(model, settings, without=heads)
    from peft import inject_adapter_in_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GPT-2's layers are stored the other way round, which peft mends and says
        inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        is_adapter = "lora_" in name or "ia3_" in name
        is_trained = is_adapter or (train_head and name.partition(".")[0] in heads)
        parameter.requires_grad_(is_trained)
        if is_trained:  # adapters are kept in float32 beside weights of any type, as peft does
            parameter.data = parameter.data.float()


def _add_prompt(model: Any, number: int) -> None:
    embedding = model.get_input_embeddings()
    model.requires_grad_(False)
    model.prompt = nn.Embedding(number, embedding.weight.shape[1])
    embed_soft_tokens(embedding, model.prompt)


def quantizable_layers(model: Any) -> list[Any]:
    """The layers whose weights are held in few bits where any are: all frozen linear ones, but for heads, poolers and
    what the architecture wants in float32 (T5's second feed-forward layer)."""
    kept = [*heads_of(model), *(name for name, _ in model.named_modules() if name.rpartition(".")[2] == "pooler")]
    wide = set(getattr(model, "_keep_in_fp32_modules", None) or ())
    kept += [name for name, _ in model.named_modules() if name.rpartition(".")[2] in wide]
    layers = {name for name in linear_layers(model, without=kept) if ".lora_" not in name}
    return [module for name, module in model.named_modules() if name in layers]
