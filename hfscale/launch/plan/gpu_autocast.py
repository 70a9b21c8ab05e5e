"""What autocast does on a GPU and not on a CPU: some functions run in float32 whatever they are given.

The list is that of torch's documentation ("CUDA Ops that can autocast to float32"), as far as models call it from
Python. It decides what a GPU keeps for the backward pass: GPT-2's GELU raises to a power, LayerNorm hands on float32.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_map_only

from hfscale.launch.plan import gpu_kernels

_IN_FLOAT32: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (torch, ("pow", "exp", "log", "rsqrt", "reciprocal", "norm", "sum", "prod", "cumsum", "logsumexp")),
    (torch, ("softmax", "log_softmax", "layer_norm", "group_norm")),
    (Tensor, ("pow", "__pow__", "exp", "log", "rsqrt", "reciprocal", "norm", "sum", "prod", "cumsum", "softmax")),
    (F, ("softmax", "log_softmax", "layer_norm", "group_norm", "softplus", "nll_loss", "mse_loss", "cross_entropy")),
    (F, ("binary_cross_entropy_with_logits",)),
)

_ON_GPU: dict[str, Any] = {"dropout": gpu_kernels.dropout, "scaled_dot_product_attention": gpu_kernels.attention}


@contextlib.contextmanager
def as_on_gpu() -> Generator[None]:
    """A GPU's kernels; while `torch.autocast("cpu", torch.bfloat16)` is on, the functions above widen what they get.

    They are replaced one by one: torch's function modes are not in force where a layer is computed again in the
    backward pass.
    """
    originals = [(owner, name, getattr(owner, name)) for owner, names in _IN_FLOAT32 for name in names]
    originals += [(F, name, getattr(F, name)) for name in _ON_GPU]
    for owner, name, function in originals:
        setattr(owner, name, _ON_GPU.get(name) or _in_float32(function))
    try:
        yield
    finally:
        for owner, name, function in originals:
            setattr(owner, name, function)


def _in_float32(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def widening(*args: Any, **kwargs: Any) -> Any:
        if torch.is_autocast_enabled("cpu"):
            args, kwargs = tree_map_only(Tensor, _widened, (args, kwargs))
        return function(*args, **kwargs)

    return widening


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor
