"""What a strategy changes in a model before it is measured: adapters, types of weights, a GPU's kind of dropout."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from hfscale.errors import MissingExtraError


def has_peft() -> bool:
    """Whether LoRA can be measured."""
    return importlib.util.find_spec("peft") is not None


def add_lora(model: Any, rank: int, train_head: bool) -> None:
    """Freeze the model and put low-rank adapters beside all linear layers of its body (Hu et al. 2021,
    arXiv:2106.09685).

    Args:
        train_head: keep what stands on top of the body trainable: a classifier's new head.

    Raises:
        MissingExtraError: where peft is not installed.
    """
    if not has_peft():
        raise MissingExtraError("LoRA comes with an extra: pip install 'hfscale[peft]'")
    from peft import LoraConfig, inject_adapter_in_model
    from transformers.pytorch_utils import Conv1D

    body = f"{model.base_model_prefix}."
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and name.startswith(body)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GPT-2's layers are stored the other way round, which peft mends and says
        inject_adapter_in_model(LoraConfig(r=rank, target_modules=linear), model)
    for name, parameter in model.named_parameters():
        is_trained = "lora_" in name or (train_head and not name.startswith(body))
        parameter.requires_grad_(is_trained)
        if is_trained:  # adapters are kept in float32 beside weights of any type, as peft does
            parameter.data = parameter.data.float()


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
