"""One training step without numbers: its memory and its floating point operations.

hfscale's own step (forward, loss, backward, clipping, optimizer) runs on fake tensors, which have shapes, types and
lifetimes but no storage, while `MemTracker` follows what each operation creates and what is freed. Only what a kernel
takes for itself, inside, is not seen.
"""

from __future__ import annotations

import contextlib
from array import array
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker, _MemRefType
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from hfscale.batch import Batch
from hfscale.launch.plan import adapters
from hfscale.launch.plan.architecture import build_model, with_depth
from hfscale.launch.plan.gpu_autocast import as_on_gpu
from hfscale.launch.plan.timeline import COPIES, MEASURED, Timeline, phase_numbers
from hfscale.launch.plan.workload import Workload

_KINDS = {"Parameter": 0, "Buffer": 0, "Gradient": 1, "Optstate": 2, "Activation": 3, "Temp": 4, "Other": COPIES}
"""The tracker's kinds of memory -> position in `MEASURED`; the kind `Other` is free for copies of weights."""

_GPU_WORKSPACE = 64 * 2**20
"""cuBLAS takes 32 MiB for the forward pass, and as much for the thread of the backward pass, on a Hopper GPU."""

_aten = torch.ops.aten


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How the model is held and computed; what strategies that share one differ in is arithmetic."""

    weights: Literal["fp32", "bf16", "4bit"]
    """Type of the weights of the model's body."""
    autocast: bool
    """Whether products run in bf16 on copies of wider weights."""
    lora_rank: int | None = None
    checkpointing: bool = False
    """Keep the inputs of each layer only, and compute the layer again in the backward pass (Chen et al. 2016,
    arXiv:1604.06174)."""
    device: Literal["cpu", "gpu"] = "gpu"
    """Whose dropout it is: they store different things."""


def measure(workload: Workload, variant: Variant, layers: int, batch_size: int) -> Timeline:
    """Memory and operations of one training step on a micro-batch of `batch_size`, with `layers` layers.

    Four-bit weights follow from those in bf16 (`Timeline.in_four_bits`).

    Raises:
        ModelError: for a config of no such model.
        MissingExtraError: where peft is needed and not installed.
    """
    from hfscale.training.optimizers import build_optimizer

    if variant.weights == "4bit":
        return measure(workload, replace(variant, weights="bf16"), layers, batch_size).in_four_bits()
    with torch.device("meta"):  # adapters can't be put into a model of fake tensors
        model = prepared_model(workload, variant, layers)
    with FakeTensorMode():
        _make_fake(model)
        optimizer = build_optimizer(model, workload.optim)
        start_optimizer(model, optimizer)
        batch = example_batch(workload, batch_size)
        tracker = _Tracker(workload.num_targets(batch_size))
        tracker.track_external(optimizer, *batch.inputs.values())
        tracker.track_model(model)
        with tracker:
            run_step(workload, variant, model, optimizer, batch)
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        adapted = [weight.numel() for name, weight in model.named_parameters() if name.endswith("base_layer.weight")]
        line = tracker.timeline(trained, sum(adapted), max(adapted, default=0))
        return line.with_workspace(_GPU_WORKSPACE) if variant.device == "gpu" else line


def prepared_model(workload: Workload, variant: Variant, layers: int) -> Any:
    """The model of a variant, ready for a step, on the device that is torch's default here."""
    from hfscale.training.dropout import use_lane_dropout

    dtype = torch.bfloat16 if variant.weights == "bf16" else torch.float32
    config = with_depth(workload.config, layers)
    if variant.device == "gpu":
        config = adapters.without_attention_dropout(config)
    model = build_model(workload, config, dtype)
    if variant.lora_rank is not None:
        adapters.add_lora(model, variant.lora_rank, train_head=not workload.is_language_model)
    if variant.checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    if variant.device == "gpu":
        adapters.use_mask_dropout(model)
    else:
        use_lane_dropout(model)
    return model


def run_step(workload: Workload, variant: Variant, model: Any, optimizer: Any, batch: Batch) -> None:
    """hfscale's training step on one micro-batch, by one process, where the model is."""
    from hfscale.training.language_loss import language_model_loss
    from hfscale.training.losses import classification_loss
    from hfscale.training.step import train_step

    loss_fn: Any = language_model_loss
    if workload.objective not in ("causal", "masked"):
        loss_fn = classification_loss(workload.objective)
    device = next(model.parameters()).device
    autocast = torch.autocast(device.type, torch.bfloat16) if variant.autocast else contextlib.nullcontext()
    policy = as_on_gpu() if variant.device == "gpu" and device.type == "cpu" else contextlib.nullcontext()

    def under_autocast(model: Any, inputs: Any) -> Any:
        with autocast:
            return loss_fn(model, inputs)

    alone: Any = _Alone(device)
    with policy:  # until the end: layers may be computed again in the backward pass
        train_step(alone, model, optimizer, [batch], under_autocast, workload.optim.max_grad_norm)


class _Alone:
    """What the step asks of an accelerator, for one process."""

    num_processes = 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def reduce(self, tensor: Tensor, reduction: str) -> Tensor:
        return tensor


def example_batch(workload: Workload, batch_size: int) -> Batch:
    """A micro-batch in the layout of hfscale's data; its token ids are all alike."""
    length, labels = workload.sequence_length, workload.num_labels
    ids = torch.ones(batch_size, length, dtype=torch.int64)
    inputs: dict[str, Any] = {"input_ids": ids}
    if workload.is_language_model:
        wanted = torch.full_like(ids, -100)
        wanted.flatten()[: workload.num_targets(batch_size)] = 1
        # Two documents in each sequence, so that it takes a mask
        pieces = torch.ones_like(ids)
        pieces[:, length // 2 :] = 2
        places = torch.arange(length).expand(batch_size, length) % (length - length // 2)
        inputs |= {"labels": wanted, "position_ids": places.contiguous(), "piece_ids": pieces}
        return Batch(inputs, batch_size, batch_size * length)
    mask = torch.ones_like(ids)
    mask[:, -1] = 0
    inputs["attention_mask"] = mask
    if (getattr(workload.config, "type_vocab_size", None) or 0) > 1:
        inputs["token_type_ids"] = torch.zeros_like(ids)
    shapes: dict[str, tuple[int, ...]] = {
        "token_classification": (batch_size, length),
        "question_answering": (batch_size, 2),
        "multi_label_classification": (batch_size, labels),
    }
    inputs["labels"] = torch.zeros(shapes.get(workload.objective, (batch_size,)), dtype=torch.int64)
    return Batch(inputs, batch_size, batch_size * length)


def _make_fake(model: Any) -> None:
    """Give a model of the meta device fake tensors of the CPU, under a `FakeTensorMode`; tied ones stay tied."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if id(parameter) not in made:
                empty = torch.empty(parameter.shape, dtype=parameter.dtype)
                made[id(parameter)] = torch.nn.Parameter(empty, requires_grad=parameter.requires_grad), parameter
            setattr(module, name, made[id(parameter)][0])
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype))


def start_optimizer(model: Any, optimizer: Any) -> None:
    """Let the optimizer make its state, which it has from the second step of a run on."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()


class _Tracker(MemTracker):
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

    def timeline(self, num_trained: int, num_adapted: int, largest_adapted: int) -> Timeline:
        moments = np.array(self._moments).reshape(-1, 2 + len(MEASURED))
        phases = phase_numbers(moments[:, 0] > 0, moments[:, 1] > 0)
        return Timeline(phases, moments[:, 2:], self._flops, num_trained, num_adapted, largest_adapted)


def _sums_gradients(one: Any, other: Any, *_: Any) -> bool:
    """Whether autograd adds two gradients of the same tensor, which it does in place where both are plain tensors;
    recomputed operations, which look alike, run with gradients enabled."""
    return not torch.is_grad_enabled() and isinstance(other, Tensor) and one.shape == other.shape


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
