"""Following the memory and the floating point operations of a step on fake tensors, operation by operation."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributed._tools.mem_tracker import MemTracker, _MemRefType
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from hfscale.launch.plan.timeline import COPIES, MEASURED, Timeline, phase_numbers

_KINDS = {"Parameter": 0, "Buffer": 0, "Gradient": 1, "Optstate": 2, "Activation": 3, "Temp": 4, "Other": COPIES}
"""The tracker's kinds of memory -> position in `MEASURED`; the kind `Other` is free for copies of weights."""

_aten = torch.ops.aten


class StepTracker(MemTracker):
    """Writes down every moment, and answers what a step asks of the numbers that fake tensors don't have."""

    def __init__(self, num_targets: int) -> None:
        super().__init__()
        self._mod_tracker: Any = _NoModules()
        self._num_targets = num_targets
        self._formulas, self._flops = _flop_formulas(), 0
        self._moments = array("q")  # of plain numbers: the garbage collector needn't look at them

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.prim.device.default:  # half of all calls, and none creates anything
            return args[0].fake_device
        if func is _aten._local_scalar_dense.default:
            return self._answer(args[0])
        if func is _aten.nonzero.default:
            return super().__torch_dispatch__(_aten.new_empty.default, types, *self._positions(args[0]))
        in_backward = self._mod_tracker.is_bw
        if func is _aten.add.Tensor and in_backward and _sums_gradients(*args):
            func = _aten.add_.Tensor
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if func is _aten._to_copy.default and isinstance(args[0], torch.nn.Parameter):
            self._update_and_maybe_create_winfos(result, _MemRefType.OTH, update_existing=True)
        formula = self._formulas.get(func._overloadpacket)
        if formula is not None:
            self._flops += formula(*args, **(kwargs or {}), out_val=result)
        self._moments.extend((in_backward, self._in_opt, *self._now()))
        return result

    def track_model(self, model: Any) -> None:
        """Weights and buffers, and gradients as they come."""
        frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
        for tensor in (*frozen, *model.buffers()):
            self._update_and_maybe_create_winfos(tensor, _MemRefType.PARAM)
        for parameter in model.parameters():
            if parameter.requires_grad:
                self._update_and_maybe_create_winfos(parameter, _MemRefType.PARAM)
                parameter.register_hook(self._track_gradient)
                parameter.register_post_accumulate_grad_hook(lambda trained: self._track_gradient(trained.grad))

    def _track_gradient(self, gradient: Any) -> None:
        self._update_and_maybe_create_winfos(gradient, _MemRefType.GRAD)

    def _positions(self, condition: Tensor) -> tuple[Any, Any]:
        return (condition, [self._num_targets, condition.ndim]), {"dtype": torch.int64}

    def _answer(self, scalar: Tensor) -> Any:
        """Documents share sequences (no condition holds); numbers of integers are those of targets; floats are 1."""
        if scalar.dtype == torch.bool:
            return False
        return 1.0 if scalar.is_floating_point() else self._num_targets

    def _now(self) -> list[int]:
        parts = [0] * len(MEASURED)
        for snapshot in self._curr_mem_snap.values():
            for kind, size in snapshot.items():
                position = _KINDS.get(getattr(kind, "value", kind))
                if position is not None:
                    parts[position] += size
        return parts

    def _update_peak_stats(self, peak_state: Any) -> None:
        """Peaks are found in the moments; per module they would cost most of the time."""

    def timeline(self, num_trained: int, num_quantizable: int, largest_quantizable: int) -> Timeline:
        moments = np.array(self._moments).reshape(-1, 2 + len(MEASURED))
        phases = phase_numbers(moments[:, 0] > 0, moments[:, 1] > 0)
        return Timeline(phases, moments[:, 2:], self._flops, num_trained, num_quantizable, largest_quantizable)


def _sums_gradients(one: Any, other: Any, *_: Any) -> bool:
    """Whether autograd adds two gradients of the same tensor, which it does in place where both are plain tensors and
    the first has a place for each number, which that of a sum has not; recomputed operations, which look alike, run
    with gradients enabled."""
    if torch.is_grad_enabled() or not isinstance(other, Tensor) or one.shape != other.shape:
        return False
    return all(stride for size, stride in zip(one.shape, one.stride(), strict=True) if size > 1)


class _NoModules:
    """In place of torch's hooks on modules, which keep a recomputed layer's graph alive: with activation checkpointing
    the tracker and the counter would change what is measured."""

    parents = frozenset({"Global"})

    @property
    def is_bw(self) -> bool:
        """Whether a backward pass is running."""
        return torch._C._current_graph_task_id() != -1

    def register_user_hooks(self, *_: Any) -> None:
        pass

    def clear_user_hooks(self) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: Any) -> None:
        pass


def _flop_formulas() -> dict[Any, Any]:
    """Of matrix products, by operation: those of torch's counter, and of the CPU's fused attention and in-place sums.

    The counter itself is not entered: its hooks on modules are what `_NoModules` is there against.
    """

    def attention(query: Any, key: Any, value: Any, *_: Any, out_val: Any, **__: Any) -> int:
        return sdpa_flop_count(query.shape, key.shape, value.shape)

    def attention_backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, out_val: Any, **__: Any) -> int:
        return sdpa_backward_flop_count(grad.shape, query.shape, key.shape, value.shape)

    def addmm(into: Any, a: Any, b: Any, *_: Any, out_val: Any, **__: Any) -> int:
        return 2 * a.shape[0] * a.shape[1] * b.shape[1]

    return FlopCounterMode(display=False).flop_registry | {
        _aten._scaled_dot_product_flash_attention_for_cpu: attention,
        _aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward,
        _aten.addmm_: addmm,
    }
