"""Memory over the course of one training step, by what it is for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

PARTS = ("weights", "gradients", "optimizer", "activations", "temporary")
"""What memory is for; `activations` are kept for the backward pass, `temporary` ones live within it."""

MEASURED = (*PARTS, "copies of weights")
"""What is told apart when a step is measured: autocast's copies of weights in bf16 are activations where weights are
whole, and none are made where ZeRO's stage 3 collects them in bf16."""

COPIES = MEASURED.index("copies of weights")

PHASES = ("forward", "backward near the output", "backward near the input", "optimizer")
"""Parts of a step between which the peak moves. Within each, what grows and what shrinks does so layer by layer, so
that its highest moment is a line over the depth of the model."""


class Timeline(NamedTuple):
    """Memory after each operation of a step."""

    phases: np.ndarray
    """(moments,) numbers into `PHASES`."""
    parts: np.ndarray
    """(moments, measured parts) bytes, in the order of `MEASURED`."""
    flops: int
    """Floating point operations of the matrix products of the step, recomputed ones included."""
    num_trained: int
    """Trained weights."""
    num_quantizable: int = 0
    """Frozen weights of the layers that can be held in few bits."""
    largest_quantizable: int = 0
    """Of the largest of these layers."""

    def in_bits(self, bits: int, size: int) -> Timeline:
        """The same step with those layers quantized: NF4 (Dettmers et al. 2023, arXiv:2305.14314, section 3), or
        LLM.int8 (Dettmers et al. 2022, arXiv:2208.07339), whose scale per row is too little to count.

        In 4 bits two weights share a byte, each 64 have a scale of one byte, each 256 of these a second one of four. A
        layer's weights exist whole while it multiplies; that is taken to be so at every moment before the update.

        Args:
            size: bytes of a weight as it was measured, and while it multiplies.
        """
        parts = self.parts.copy()
        scales = -(-self.num_quantizable // 64) if bits == 4 else 0
        packed = -(-self.num_quantizable * bits // 8) + scales + 4 * -(-scales // 256)
        parts[:, PARTS.index("weights")] -= size * self.num_quantizable - packed
        multiplies = self.phases < PHASES.index("optimizer")
        parts[multiplies, PARTS.index("temporary")] += size * self.largest_quantizable
        return self._replace(parts=parts)

    def with_workspace(self, size: int) -> Timeline:
        """The same step with so many more bytes of temporary memory."""
        parts = self.parts.copy()
        parts[:, PARTS.index("temporary")] += size
        return self._replace(parts=parts)

    def peaks(self, factors: np.ndarray, accumulates: bool = False) -> np.ndarray:
        """(phases, measured parts) bytes at each phase's highest moment; part p takes `factors[p]` times its size.

        Args:
            factors: share of each measured part that one GPU holds.
            accumulates: whether gradients of earlier micro-batches are there from the start.
        """
        parts = self.parts.copy()
        if accumulates:  # and each new one exists beside the sum until it is added
            full = parts[:, 1].max()
            grown = np.diff(parts[:, 1], prepend=parts[0, 1]).clip(min=0)
            before_update = self.phases < PHASES.index("optimizer")
            parts[before_update, 1] = full + grown[before_update]
        held = parts * factors
        return np.stack([_highest(held[self.phases == number]) for number in range(len(PHASES))])


def _highest(moments: np.ndarray) -> np.ndarray:
    return moments[moments.sum(1).argmax()] if len(moments) else np.zeros(len(MEASURED))


def phase_numbers(in_backward: np.ndarray, in_optimizer: np.ndarray) -> np.ndarray:
    """(moments,) phases: the backward pass is halved, since either of its ends may be its peak."""
    phases = np.zeros(len(in_backward), dtype=np.int64)
    backward = np.flatnonzero(in_backward & ~in_optimizer)
    if len(backward):
        phases[backward] = 1
        phases[backward[len(backward) // 2 :]] = 2
        after = np.arange(len(phases)) > backward[-1]
        phases[after] = 3
    phases[in_optimizer] = 3
    return phases
