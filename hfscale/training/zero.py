"""What DeepSpeed's ZeRO does otherwise: who divides the loss and clips, who holds weights and moments. Nothing else in
hfscale asks for a stage.

Stages 1 and 2 keep a full copy of the weights on every process and a share of the optimizer's; stage 3 keeps a share
of both, and every forward pass is an exchange. Checkpoints hold whole weights and moments by name, whatever made them,
so that another stage or another number of processes can go on from them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import DistributedType, send_to_device

from hfscale import interruption, watchdog
from hfscale.batch import NO_LABEL
from hfscale.errors import DivergedError, SettingsError
from hfscale.training import fsdp
from hfscale.training.state import is_adapted
from hfscale.training.step import StepStats, all_sum

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor, nn

    from hfscale.batch import Batch
    from hfscale.schemas import OptimSettings
    from hfscale.training.losses import LossFn

_GATHERED_LOW = ("torch.nn.Linear", "torch.nn.Conv2d", "transformers.pytorch_utils.Conv1D")
"""Layers that multiply in bfloat16: their weights travel in it, too, and need no copy that autocast would keep."""

_REDUCE_BUCKET = 500_000_000  # elements, DeepSpeed's own choice for large models


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether DeepSpeed runs this training."""
    return accelerator.distributed_type == DistributedType.DEEPSPEED


def configure(accelerator: Accelerator, model: nn.Module, optim: OptimSettings, micro_batch_size: int) -> None:
    """Tell DeepSpeed, before `prepare`, what hfscale's own settings say: it clips; it neither accumulates nor counts.

    On a machine without a GPU the optimizer that was offloaded is torch's own: DeepSpeed's would be compiled first.
    """
    if optim.name == "adamw8bit":
        raise SettingsError("--optim.name adamw8bit can't be shared out by DeepSpeed; take adamw, or ddp.yaml")
    plugin: Any = accelerator.state.deepspeed_plugin
    config = plugin.deepspeed_config
    config["train_micro_batch_size_per_gpu"] = micro_batch_size
    config["gradient_accumulation_steps"] = 1  # the boundary is set by hand, and the loss is divided here
    config["gradient_clipping"] = optim.max_grad_norm or 0.0
    config["steps_per_print"] = 10**9
    # A buffer that it allocates in full: by default 2 GB, however small the model is.
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    config["zero_optimization"].setdefault("reduce_bucket_size", max(1, min(trained, _REDUCE_BUCKET)))
    if accelerator.mixed_precision == "bf16":
        # Autocast over float32 weights as everywhere else, not DeepSpeed's copy of the model in bfloat16.
        config["bf16"] = {"enabled": False}
        config["torch_autocast"] = {
            "enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": list(_GATHERED_LOW)
        }  # fmt: skip
    if accelerator.device.type == "cpu":
        config["zero_force_ds_cpu_optimizer"] = False


def share_weights(accelerator: Accelerator, model: nn.Module) -> None:
    """Under stage 3, give every process its share of the first one's weights, one weight at a time.

    The others may have theirs on the meta device (`hfscale.models` loads them so): no process but the first ever holds
    more than its share and the largest weight. DeepSpeed alone would move whole models to the GPUs before.
    """
    plugin: Any = accelerator.state.deepspeed_plugin
    if plugin.zero_stage != 3:
        return
    from deepspeed.runtime.zero.partition_parameters import Init

    zero: Any = {key: value for key, value in plugin.deepspeed_config["zero_optimization"].items() if value != "auto"}
    config = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": zero}
    first: Any = None
    for parameter in list(model.parameters()):
        if parameter.is_meta:
            room = torch.empty(parameter.shape, dtype=parameter.dtype, device=accelerator.device)
            torch.utils.swap_tensors(parameter, torch.nn.Parameter(room, parameter.requires_grad))
        if first is None:
            Init(module=torch.nn.ParameterList([parameter]), dtype=parameter.dtype, config_dict_or_path=config)
            first = parameter
        else:
            first.convert_to_zero_parameters(param_list=[parameter])


def share_output_layer(model: nn.Module) -> None:
    """Have stage 3 collect the output layer's weights for the whole forward pass: the loss of a language model reads
    them outside of the layer's own."""
    layer = getattr(model, "get_output_embeddings", lambda: None)()
    if layer is None or not any(hasattr(parameter, "ds_id") for parameter in layer.parameters()):
        return
    from deepspeed.runtime.zero.partition_parameters import register_external_parameter

    for parameter in layer.parameters():
        register_external_parameter(model, parameter)


def num_targets_of(inputs: Mapping[str, Any]) -> int:
    """Targets of a batch, before the model has seen it; numbers to predict are all targets."""
    labels = inputs["labels"]
    return labels.numel() if labels.is_floating_point() else int((labels != NO_LABEL).sum())


def sharded_step(
    accelerator: Accelerator,
    engine: Any,
    optimizer: Any,
    micro_batches: Sequence[Batch],
    loss_fn: LossFn,
    max_grad_norm: float | None,
    wish_to_save: bool = False,
    before_update: Callable[[], None] = lambda: None,
) -> StepStats:
    """`hfscale.training.step.train_step` by DeepSpeed's engine, which averages over the processes, clips and updates.

    The gradient can't be divided afterwards, since each process has only its share of it: targets are counted first.

    Raises:
        DivergedError: where the loss or the gradient is not finite; with a finite loss the weights have changed then.
        Interrupted: between two micro-batches, where a process was told to stop; the weights are as they were.
    """
    real = [batch for batch in micro_batches if batch.num_examples]
    count = getattr(loss_fn, "num_targets", num_targets_of)
    counts = [sum(count(batch.inputs) for batch in real)]
    counts += [sum(batch.num_examples for batch in real), sum(batch.num_tokens for batch in real)]
    num_targets, num_examples, num_tokens = all_sum(accelerator, counts)
    to_mean = accelerator.num_processes / max(1.0, num_targets)
    loss_sum = torch.zeros((), dtype=torch.float64, device=accelerator.device)
    for number, batch in enumerate(micro_batches, start=1):
        inputs: Any = send_to_device(batch.inputs, accelerator.device)
        loss, _ = loss_fn(engine, inputs)
        loss = loss if batch.num_examples else loss * 0.0
        engine.set_gradient_accumulation_boundary(number == len(micro_batches))
        engine.backward(loss * to_mean)
        loss_sum += loss.detach()
        if number < len(micro_batches):
            interruption.check(accelerator)
    asked = interruption.asked() is not None
    total, save, stop = all_sum(accelerator, [float(loss_sum), wish_to_save, asked])
    value = total / max(1.0, num_targets)
    if not math.isfinite(value):
        raise DivergedError(f"the loss is {value}")
    before_update()
    engine.step()
    watchdog.pet()
    norm = float(engine.get_global_grad_norm() or 0.0)
    if not math.isfinite(norm):
        raise DivergedError(f"the loss is {value}, the gradient's norm {norm}")
    return StepStats(value, norm, int(num_examples), int(num_tokens), save > 0, stop > 0)


def shares_weights(model: nn.Module) -> bool:
    """Whether every process has a share of the weights only: under stage 3, and under FSDP2."""
    return any(_is_share(parameter) for parameter in model.parameters())


def _is_share(parameter: Tensor) -> bool:
    return hasattr(parameter, "ds_id") or fsdp.is_share(parameter)


@contextlib.contextmanager
def _whole(parameter: Tensor, write: bool = False) -> Generator[Tensor]:
    """The parameter with all of its elements, on every process; what the first one writes, all get."""
    if fsdp.is_share(parameter):
        full = torch.empty(parameter.shape, dtype=parameter.dtype) if write else fsdp.whole(parameter)
        yield full
        if write:
            parameter.copy_(fsdp.shared_out(full, parameter))
    elif hasattr(parameter, "ds_id"):
        from deepspeed.runtime.zero.partition_parameters import GatheredParameters

        with GatheredParameters([parameter], modifier_rank=0 if write else None):
            yield parameter
    else:
        yield parameter


def whole_weights(accelerator: Accelerator, model: nn.Module) -> dict[str, Tensor] | None:
    """Weights and buffers for `save_pretrained(state_dict=...)`, on the first process; None where the model has them.

    Called by all processes. Tied weights stand once.
    """
    if not shares_weights(model):
        return None
    weights: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if is_adapted(model) and not parameter.requires_grad:
            continue  # its folder has none
        with _whole(parameter) as full:
            if accelerator.is_main_process:
                weights[name] = full.detach().cpu().clone()
    saved = model.state_dict().keys()
    weights |= {name: buffer.cpu() for name, buffer in model.named_buffers() if name in saved}
    for name, weight in weights.items():
        assert weight.numel() or not accelerator.is_main_process, f"{name} is empty"
    return weights


def load_whole_weights(accelerator: Accelerator, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy trained `weights` by name into a model: what is sharded from the first process, the rest from each one's
    own, if it has any. Called by all processes."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            with _whole(parameter, write=True) as full:
                if accelerator.is_main_process or (weights and not _is_share(parameter)):
                    full.copy_(weights[name])


def gathered_state(accelerator: Accelerator, model: nn.Module, optimizer: Any) -> tuple[Any, Any]:
    """(weights by name, moments as `KEY:WEIGHT`), whole and in float32, on the first process; called by all."""
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    state = next(iter(optimizer.optimizer.state.values()), {})
    keys = [key for key, value in state.items() if isinstance(value, torch.Tensor) and value.ndim]
    weights: dict[str, Tensor] = {}
    moments: dict[str, Tensor] = {}
    if keys:
        _link_moments(optimizer)

    def keep(into: dict[str, Tensor], name: str, tensor: Tensor | None) -> None:
        assert tensor is not None, name
        if accelerator.is_main_process:
            into[name] = tensor.detach().cpu().clone()

    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        keep(weights, name, safe_get_full_fp32_param(parameter))
        for key in keys:
            keep(moments, f"{key}:{name}", safe_get_full_optimizer_state(parameter, key))
        if "step" in state:
            keep(moments, f"step:{name}", torch.as_tensor(state["step"], dtype=torch.float32))
    return weights, moments


def load_gathered_state(
    accelerator: Accelerator, model: nn.Module, optimizer: Any, weights: Mapping[str, Tensor], moments: Any
) -> None:
    """Give every process its share of what `gathered_state`, or a run without DeepSpeed, has saved."""
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

    load_whole_weights(accelerator, model, weights)
    keys = {full.split(":", 1)[0] for full in moments} - {"step"}
    steps = [float(tensor) for full, tensor in moments.items() if full.startswith("step:")]
    _make_room_for_moments(optimizer, keys, steps[0] if steps else None)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            safe_set_full_fp32_param(parameter, weights[name].to(accelerator.device))
            for key in keys:
                safe_set_full_optimizer_state(parameter, moments[f"{key}:{name}"].to(accelerator.device), key)


def _make_room_for_moments(optimizer: Any, keys: set[str], step: float | None) -> None:
    """The state that the first update would make, for the flat shares that DeepSpeed updates."""
    if not keys:
        return
    stage_3 = hasattr(optimizer, "fp32_partitioned_groups_flat")
    flats = optimizer.fp32_partitioned_groups_flat if stage_3 else optimizer.single_partition_of_fp32_groups
    for flat in flats:
        state: dict[str, Any] = {key: torch.zeros_like(flat) for key in keys}
        if step is not None:
            torchs = isinstance(optimizer.optimizer, (torch.optim.AdamW, torch.optim.Adam))
            state["step"] = torch.tensor(step, dtype=torch.float32, device=flat.device) if torchs else int(step)
        optimizer.optimizer.state[flat] = state
    _link_moments(optimizer)


def _link_moments(optimizer: Any) -> None:
    """Tell stages 1 and 2 where in the flat shares each weight's moments are.

    DeepSpeed does so after the update of the first group of weights, when the others have no moments yet.
    """
    if hasattr(optimizer, "_lazy_init_hp_params_optimizer_state"):
        optimizer._hp_optimizer_states_linked = False
        optimizer._lazy_init_hp_params_optimizer_state()
