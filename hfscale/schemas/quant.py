"""Holding the frozen weights in fewer bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hfscale.schemas.checks import require
from hfscale.schemas.lora import LoraSettings


@dataclass(frozen=True, kw_only=True)
class QuantSettings:
    """Hold the frozen weights of the linear layers in 8 or 4 bits: `--quant.bits 4`. Needs the extra `quant`."""

    bits: Literal[4, 8] = 4
    """Bits of a weight: 8 (LLM.int8) or 4 (QLoRA)."""
    type: Literal["nf4", "fp4"] | None = None
    """How 4 bits stand for a number: quantiles of the normal distribution (nf4, the default), or a float (fp4)."""
    double: bool | None = None
    """Hold the scales of 4-bit weights in 8 bits, too; true by default."""

    def __post_init__(self) -> None:
        for name in ("type", "double"):
            require(
                self.bits == 4 or getattr(self, name) is None,
                f"--quant.{name} has no effect with --quant.bits 8; leave it out",
            )


def check_adapter(
    lora: LoraSettings | None, quant: QuantSettings | None, random_weights: bool = False, takes_prompt: bool = False
) -> None:
    """Refuse what can't be trained in few bits, and a trained prompt where the recipe reads none.

    Raises:
        ValueError: naming the flag.
    """
    require(
        lora is None or lora.method != "prompt" or takes_prompt,
        "--lora.method prompt is for finetune_gpt.py alone; take lora, rslora, dora or ia3",
    )
    if quant is None:
        return
    require(lora is not None, "--quant: quantized weights can't be trained; add an adapter, as in --lora.r 8")
    assert lora is not None
    require(
        lora.method != "pissa",
        "--lora.method pissa has to split weights that --quant has rounded; take lora, or no --quant",
    )
    # PEFT reads the weights for their norms, and bitsandbytes then has lost the scales of its 8-bit layers.
    require(
        lora.method != "dora" or quant.bits == 4,
        "--lora.method dora does not work with --quant.bits 8; take --quant.bits 4, or lora",
    )
    require(not random_weights, "--quant has no effect with --model.random_weights true; leave one out")
