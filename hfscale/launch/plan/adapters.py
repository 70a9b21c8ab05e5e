"""What a strategy changes in a model before it is measured: adapters, types of weights, a GPU's kind of dropout."""

from __future__ import annotations

import dataclasses
import importlib.util
import warnings
from typing import Any

import torch
from torch import Tensor, nn

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
    """The layers whose weights are held in few bits where any are: all frozen linear ones, but for heads and
    poolers."""
    kept = [*heads_of(model), *(name for name, _ in model.named_modules() if name.rpartition(".")[2] == "pooler")]
    layers = {name for name in linear_layers(model, without=kept) if ".lora_" not in name}
    return [module for name, module in model.named_modules() if name in layers]


class MaskDropout(nn.Module):
    """`nn.Dropout` as a GPU runs it: one kernel that keeps a mask of one byte per element."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return torch.native_dropout(x, self.p, self.training)[0] if self.training and self.p else x


def use_mask_dropout(model: nn.Module) -> None:
    """Replace every `nn.Dropout` by one that takes a GPU's memory."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, MaskDropout(child.p))


def without_attention_dropout(config: Any) -> Any:
    """The config with no dropout inside attention: a GPU's fused kernel draws it without storing anything, while the
    CPU's would write the whole (batch, heads, seq, seq) table."""
    for name, value in vars(config).items():
        if "att" in name and name.endswith(("dropout", "dropout_prob", "pdrop")) and isinstance(value, float):
            setattr(config, name, 0.0)
    return config
