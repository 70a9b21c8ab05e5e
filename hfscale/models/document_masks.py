"""Attention masks and positions that keep the documents of a packed sequence apart.

The masks are floating point numbers that are added to the attention scores: boolean ones are right under `sdpa` only,
and silently wrong under `eager`. Position numbers alone, which some models read, separate nothing in an encoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_POSITIONS_BEHIND_PADDING = ("roberta", "xlm-roberta", "camembert")
"""Models whose first position is the padding token's number plus one."""


def mask_arguments(model: PreTrainedModel, piece_ids: Tensor, position_ids: Tensor) -> dict[str, Any]:
    """`attention_mask` and `position_ids` for a forward pass, from (batch, seq) numbers of pieces (0: padding) and
    positions inside them. Rows that hold one document each need no mask of their own, which is fastest."""
    config = model.config
    causal = _is_causal(model)
    if config.model_type in _POSITIONS_BEHIND_PADDING:
        position_ids = position_ids + config.pad_token_id + 1
    arguments: dict[str, Any] = {"position_ids": position_ids}
    if causal:
        arguments["use_cache"] = False  # with a cache some models take the packed sequence for one document
    # Padding stands at the end, where a causal model's real tokens don't look.
    one_each = bool((piece_ids <= 1).all()) if causal else bool((piece_ids == 1).all())
    windows = _windows(config)
    if one_each and not any(windows.values()):
        # All ones mean no mask; without them transformers warns of padding that it takes an end token for.
        return arguments | {"attention_mask": torch.ones_like(piece_ids)}
    device = piece_ids.device.type  # in the type that attention runs in: else each layer would convert its own copy
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else model.dtype
    masks = {kind: _mask(piece_ids, causal, window, dtype) for kind, window in windows.items()}
    arguments["attention_mask"] = masks if len(masks) > 1 else next(iter(masks.values()))
    return arguments


def _is_causal(model: PreTrainedModel) -> bool:
    return type(model).__name__.endswith(("ForCausalLM", "LMHeadModel"))


def _windows(config: Any) -> dict[str, int | None]:
    """Kind of attention layer -> how far it looks, in tokens; None for all the way."""
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return {"sliding_attention" if window else "full_attention": window}
    if "sliding_attention" not in kinds:
        return {"full_attention": None}
    return {"full_attention": None, "sliding_attention": window}


def _mask(piece_ids: Tensor, causal: bool, window: int | None, dtype: torch.dtype) -> Tensor:
    """(batch, 1, seq, seq): 0 where a position may look, the lowest number elsewhere; padding looks at padding."""
    allowed = piece_ids[:, :, None] == piece_ids[:, None, :]
    place = torch.arange(piece_ids.shape[1], device=piece_ids.device)
    distance = place[:, None] - place[None, :]
    if causal:
        allowed &= distance >= 0
    if window is not None:  # as transformers counts: a causal window holds the position itself
        allowed &= (distance < window) if causal else (distance.abs() <= window)
    mask = torch.zeros(allowed.shape, dtype=dtype, device=piece_ids.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min).unsqueeze(1)
