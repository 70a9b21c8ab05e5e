"""Kernels that a GPU has and a CPU has not, by what they store for the backward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_aten: Any = torch.ops.aten
_cpu_attention = F.scaled_dot_product_attention


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`F.dropout` in one kernel, which keeps a mask of one byte per element."""
    return torch.native_dropout(input, p, training)[0] if training and p else input


def attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """`F.scaled_dot_product_attention` that draws dropout without storing anything. Where the mask learns, as T5's
    positions do, the memory-efficient kernel writes its gradient. A CPU would write the (batch, heads, queries, keys)
    table in both cases, and several times."""
    if attn_mask is None or not attn_mask.requires_grad:
        options: Any = {"is_causal": is_causal, "scale": scale, "enable_gqa": enable_gqa}
        return _cpu_attention(query, key, value, attn_mask, **options)
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    tensors = [tensor.to(dtype) for tensor in (query, key, value, attn_mask)]
    return _BiasedAttention.apply(*tensors, scale)


class _BiasedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float | None) -> Tensor:
        out, lse = _aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, False, attn_mask=bias, scale=scale
        )
        ctx.save_for_backward(query, key, value, bias, out, lse)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        query, key, value, bias, out, lse = ctx.saved_tensors
        of_inputs = _aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grads[0], query, key, value, out, lse, 0.0, False, attn_mask=bias, scale=ctx.scale
        )
        return (*of_inputs, torch.empty_like(bias), None)
