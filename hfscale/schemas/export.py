"""What is made of a trained model for those who use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hfscale.schemas.checks import require

Bits = Literal[4, 8, 16]
Format = Literal["safetensors", "onnx", "gguf"]


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """What `hfscale export` makes of a model, and how far that may change it."""

    merge: bool = False
    """Merge the adapter into the model it was trained on, in float32."""
    bits: Bits | None = None
    """Hold all weights in 16 bits (bfloat16), or the linear layers in 8 (LLM.int8) or 4 (nf4, double quantization)."""
    format: Literal["safetensors", "onnx"] = "safetensors"
    """Kind of file that holds the weights."""
    base: str | None = None
    """The full-precision model that the adapter was trained on: folder, Hub id or `builtin:` name."""
    tolerance: float | None = None
    """How far the export may change the model: a fraction of the largest logit for a merge or ONNX (1e-4), of the main
    metric where the bits of the weights change (0.01 of 16 bits, 0.02 of 8, 0.05 of 4)."""
    examples: int = 1_000
    """The most validation examples that both models are compared on."""
    batch_size: int = 16
    """Examples per forward pass of the comparison."""

    def __post_init__(self) -> None:
        require(
            self.bits is None or self.format == "safetensors",
            "--bits has no effect on --format onnx, which holds the weights in float32; leave one out",
        )
        require(self.base is None or self.merge, "--base has no effect without --merge; leave it out")
        require(
            self.tolerance is None or 0 <= self.tolerance < float("inf"),
            f"--tolerance must be a number of at least 0, got {self.tolerance}",
        )
        require(self.examples >= 1, f"--examples must be at least 1, got {self.examples}")
        require(self.batch_size >= 1, f"--batch_size must be at least 1, got {self.batch_size}")

    @property
    def name(self) -> str:
        """What the exported folder is called behind the model's own name."""
        done = {"merged": self.merge, f"{self.bits}bit": self.bits, self.format: self.format != "safetensors"}
        return "-".join(name for name, is_done in done.items() if is_done)
