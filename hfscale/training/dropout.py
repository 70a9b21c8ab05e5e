"""Dropout whose random bits cost a third on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LEVELS = 2**16
_LOWEST = torch.iinfo(torch.int64).min


class LaneDropout(nn.Module):
    """`nn.Dropout` on 16 random bits an element instead of a drawn float.

    The generator draws one after the other, on one core; four elements share a 64-bit draw. The probability is
    `p` rounded to 1/65,536, and the scale is that of the rounded one, so that the expectation is exact.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Any shape; the identity in eval mode."""
        dropped = round(self.p * _LEVELS)
        if not self.training or not dropped:
            return x
        if dropped == _LEVELS:
            return x * 0.0
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(_LOWEST, None)
        lanes = draws.view(torch.int16)[: x.numel()].view(x.shape)
        return x * (lanes >= dropped - _LEVELS // 2).to(x.dtype).mul_(_LEVELS / (_LEVELS - dropped))


def use_lane_dropout(model: nn.Module) -> None:
    """Replace every plain `nn.Dropout` of a model on the CPU; it has no weights, so that none change their names."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, LaneDropout(child.p).train(child.training))
