"""How fast a run goes: examples and real tokens per second, and the share of the machine's matrix-multiply peak."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from accelerate import Accelerator

    from hfscale.training.loop import Batches
    from hfscale.training.losses import LossFn


class Speed(NamedTuple):
    """What the measured rates are compared with."""

    flops: float
    """Floating point operations of training on one token, or on one example without tokens, forward and backward; 0
    where they can't be counted."""
    peak_flops: float
    """Measured floating point operations per second of all processes together."""


class Rate(NamedTuple):
    """Work done per second of training time; evaluation, logging and saving left out."""

    seconds: float
    samples_per_second: float
    tokens_per_second: float | None
    """None where the examples hold no tokens: images."""


class Meter:
    """Counts examples and tokens, over all processes, and the time that training took."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.samples = 0
        self.tokens = 0
        self._since = (0.0, 0, 0)
        self._started = 0.0

    def state_dict(self) -> dict[str, Any]:
        """What was counted, for a checkpoint."""
        return {"seconds": self.seconds, "samples": self.samples, "tokens": self.tokens, "since": list(self._since)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting from there."""
        self.seconds, self.samples, self.tokens = state["seconds"], state["samples"], state["tokens"]
        self._since = tuple(state["since"])

    def start(self) -> None:
        """From now on it is training."""
        self._started = time.perf_counter()

    def add(self, samples: int, tokens: int) -> None:
        self.samples += samples
        self.tokens += tokens
        self._tick()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.seconds += now - self._started
        self._started = now

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time in here is not training."""
        self._tick()
        yield
        self._started = time.perf_counter()

    def lap(self) -> Rate:
        """Rate since the last lap."""
        rate = _rate(*(now - then for now, then in zip(self._now(), self._since, strict=True)))
        self._since = self._now()
        return rate

    def total(self) -> Rate:
        """Rate since the start."""
        return _rate(*self._now())

    def _now(self) -> tuple[float, int, int]:
        return self.seconds, self.samples, self.tokens


def _rate(seconds: float, samples: float, tokens: float) -> Rate:
    if not seconds:
        return Rate(0.0, 0.0, 0.0)
    return Rate(seconds, samples / seconds, tokens / seconds if tokens else None)


def measure(accelerator: Accelerator, model: torch.nn.Module, batches: Batches, loss_fn: LossFn) -> Speed:
    """Count the operations of one example of middling length, and time the machine's matrix products.

    Counted is the forward pass; the backward pass multiplies twice as many matrices.
    """
    import torch
    from accelerate.utils import recursively_apply, send_to_device
    from torch.nn.attention import SDPBackend, sdpa_kernel

    some = [batches[step][0] for step in range(min(9, batches.steps_per_epoch))]
    middle = sorted(some, key=lambda batch: batch.num_tokens)[len(some) // 2]
    device = next(model.parameters()).device
    inputs: Any = send_to_device(recursively_apply(lambda tensor: tensor[:1], middle.inputs), device)
    model.eval()  # so that counting draws no random numbers
    # The products of attention are counted where they are plain ones, which fused kernels are not.
    with torch.no_grad(), accelerator.autocast(), sdpa_kernel(SDPBackend.MATH):
        forward = flops_of(lambda: loss_fn(model, inputs))
    dtype = torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float32
    peak = torch.tensor(matmul_peak(accelerator.device, dtype), device=accelerator.device)
    total_peak = accelerator.reduce(peak, reduction="sum")
    units = inputs["input_ids"].numel() if middle.num_tokens else 1
    return Speed(3 * forward / units, float(total_peak))  # type: ignore[arg-type]


def matmul_peak(device: torch.device, dtype: torch.dtype, size: int | None = None) -> float:
    """Floating point operations per second of one large matrix product on this process's device: the best of several.

    A measured peak, not a data sheet's: it is what this machine, with its threads and clocks, can really do.
    """
    import torch

    size = size or (8192 if device.type == "cuda" else 1024)
    a = torch.randn(size, size, device=device, dtype=dtype)
    b = torch.randn(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(8):
        _wait(device)
        start = time.perf_counter()
        torch.mm(a, b)
        _wait(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def flops_of(function: Callable[[], Any]) -> int:
    """Floating point operations of the matrix products inside a call, counted by torch as it runs."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    # Fused recurrent layers, which torch itself has no formula for.
    formulas = {torch.ops.aten.mkldnn_rnn_layer: _onednn_flops, torch.ops.aten._cudnn_rnn: _cudnn_flops}
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        function()
    return counter.get_total_flops()


def _onednn_flops(states: Any, weight_ih: Any, weight_hh: Any, *_: Any, **__: Any) -> int:
    """Of one layer in one direction, from shapes: (positions, batch, size) states, (gates x hidden, size) weights."""
    return 2 * math.prod(states[:-1]) * (math.prod(weight_ih) + math.prod(weight_hh))


def _cudnn_flops(states: Any, weights: Any, *_: Any, **__: Any) -> int:
    """Of all layers and directions, from shapes: (tokens, size) states, and the list of weights and biases."""
    return 2 * math.prod(states[:-1]) * sum(math.prod(weight) for weight in weights if len(weight) == 2)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def peak_memory_bytes(device: torch.device) -> int:
    """Most memory this process held at once: allocated on its GPU, or resident on a CPU machine."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
