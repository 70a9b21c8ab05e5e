"""AdamW in 8 bits, without numbers: bitsandbytes' own draws up its table of codes from numbers when it is made."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_BLOCK = 256
_MIN_SIZE = 4096

BYTES_PER_WEIGHT = 2 + 2 * 4 / _BLOCK
"""Of the state of a large parameter."""


class AdamW8bit(torch.optim.Optimizer):
    """Has the state that `bitsandbytes.optim.AdamW8bit` has, and takes the memory that it takes in a step.

    Both moments in a byte each, and a float32 scale for each block of 256 of them; of parameters of fewer than 4,096
    elements both in float32 (Dettmers et al. 2022, arXiv:2110.02861; `Optimizer2State.init_state`). The 32-bit
    embeddings of the paper are those of a layer of bitsandbytes' own, which no model here has.
    """

    def __init__(self, parameters: Any, on_cpu: bool) -> None:
        super().__init__(parameters, {})
        self._on_cpu = on_cpu
        self._codes: tuple[Tensor, Tensor] | None = None

    def step(self, closure: Any = None) -> None:
        """Make the state at first; nothing is updated."""
        for parameter in (each for group in self.param_groups for each in group["params"]):
            if parameter.grad is None:
                continue
            if not self.state[parameter]:
                self.state[parameter].update(self._new_state(parameter))
            if self._on_cpu and parameter.numel() >= _MIN_SIZE:
                _take_what_a_cpu_takes(parameter)

    def _new_state(self, parameter: Tensor) -> dict[str, Tensor]:
        whole = parameter.numel() < _MIN_SIZE
        dtype = torch.float32 if whole else torch.uint8
        state = {f"state{number}": torch.zeros_like(parameter, dtype=dtype) for number in (1, 2)}
        if whole:
            return state
        if self._codes is None:
            self._codes = torch.zeros(256), torch.zeros(256)
        blocks = -(-parameter.numel() // _BLOCK)
        scales = {f"absmax{number}": torch.zeros(blocks, dtype=torch.float32) for number in (1, 2)}
        return {**state, **scales, **{f"qmap{number}": code for number, code in enumerate(self._codes, start=1)}}


def _take_what_a_cpu_takes(parameter: Tensor) -> None:
    """A GPU's kernel reads and writes the state in place; a CPU unpacks that of one parameter as a whole."""
    moments = [torch.empty_like(parameter, dtype=torch.float32) for _ in range(2)]
    gradient = torch.empty_like(parameter, dtype=torch.float32)
    denominator = moments[1].sqrt() / 1.0
    del gradient, denominator
