"""One training step without numbers: its memory and its floating point operations.

hfscale's own step (forward, loss, backward, clipping, optimizer) runs on fake tensors, which have shapes, types and
lifetimes but no storage, while `MemTracker` follows what each operation creates and what is freed. Only what a kernel
takes for itself, inside, is not seen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from hfscale.batch import Batch
from hfscale.errors import ModelError
from hfscale.launch.plan import adapters
from hfscale.launch.plan.architecture import build_model, with_depth
from hfscale.launch.plan.gpu_autocast import as_on_gpu
from hfscale.launch.plan.timeline import Timeline
from hfscale.launch.plan.tracker import StepTracker
from hfscale.launch.plan.workload import Workload
from hfscale.schemas import LoraSettings

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_GPU_WORKSPACE = 64 * 2**20
"""cuBLAS takes 32 MiB for the forward pass, and as much for the thread of the backward pass, on a Hopper GPU."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How the model is held and computed; what strategies that share one differ in is arithmetic."""

    weights: Literal["fp32", "bf16"]
    """Type of the weights of the model's body, and of products with those that are quantized."""
    autocast: bool
    """Whether products run in bf16 on copies of wider weights."""
    lora: LoraSettings | None = None
    """Train an adapter beside frozen weights."""
    bits: Literal[4, 8] | None = None
    """Bits of the frozen weights of linear layers where they are quantized."""
    kept: Literal["fp32", "bf16"] | None = None
    """Type of what is not quantized beside these, where that is another than `weights`."""
    checkpointing: bool = False
    """Keep the inputs of each layer only, and compute the layer again in the backward pass (Chen et al. 2016,
    arXiv:1604.06174)."""
    device: Literal["cpu", "gpu"] = "gpu"
    """Whose dropout it is: they store different things."""


def measure(workload: Workload, variant: Variant, layers: int, batch_size: int) -> Timeline:
    """Memory and operations of one training step on a micro-batch of `batch_size`, with `layers` layers.

    Quantized weights follow from whole ones (`Timeline.in_bits`).

    Raises:
        ModelError: for a config of no such model.
        MissingExtraError: where peft is needed and not installed.
    """
    if variant.bits is not None:
        whole = measure(workload, replace(variant, bits=None), layers, batch_size)
        return whole.in_bits(variant.bits, 2 if variant.weights == "bf16" else 4)
    with _naming(workload), torch.device("meta"):  # adapters can't be put into a model of fake tensors
        model = prepared_model(workload, variant, layers)
    with _naming(workload), FakeTensorMode():
        _make_fake(model)
        optimizer = _optimizer(workload, variant, model)
        start_optimizer(model, optimizer)
        batch = example_batch(workload, batch_size)
        tracker = StepTracker(workload.num_targets(batch_size))
        tracker.track_external(optimizer, *batch.inputs.values())
        tracker.track_model(model)
        with tracker:
            run_step(workload, variant, model, optimizer, batch)
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        layers_in_bits = adapters.quantizable_layers(model) if variant.lora is not None else []
        quantizable = [layer.weight.numel() for layer in layers_in_bits]
        line = tracker.timeline(trained, sum(quantizable), max(quantizable, default=0))
        return line.with_workspace(_GPU_WORKSPACE) if variant.device == "gpu" else line


def _optimizer(workload: Workload, variant: Variant, model: Any) -> Any:
    from hfscale.launch.plan.adam_8bit import AdamW8bit
    from hfscale.training.optimizers import build_optimizer

    if workload.optim.name == "adamw8bit":
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return AdamW8bit(trained, on_cpu=variant.device == "cpu")
    return build_optimizer(model, workload.optim)


@contextlib.contextmanager
def _naming(workload: Workload) -> Generator[None]:
    """Some architectures look at numbers, which a fake tensor doesn't have."""
    try:
        yield
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"a step of a {workload.config.model_type} model can't be measured: {reason}") from error


def prepared_model(workload: Workload, variant: Variant, layers: int) -> Any:
    """The model of a variant, ready for a step, on the device that is torch's default here."""
    from hfscale.training.activation_checkpointing import checkpoint_activations
    from hfscale.training.dropout import use_lane_dropout

    dtype = _TYPES[variant.weights]
    config = with_depth(workload.config, layers)
    model = build_model(workload, config, dtype if variant.kept is None else _TYPES[variant.kept])
    if variant.lora is not None:
        adapters.add_adapter(model, variant.lora, train_head=not workload.is_language_model)
    if variant.kept is not None:
        for layer in adapters.quantizable_layers(model):
            layer.weight.data = layer.weight.data.to(dtype)
            layer.register_forward_hook(lambda _, inputs, output: output.to(inputs[0].dtype))  # as bitsandbytes does
    if variant.checkpointing:
        checkpoint_activations(model)
    if variant.device == "cpu":
        use_lane_dropout(model)
    return model


def run_step(workload: Workload, variant: Variant, model: Any, optimizer: Any, batch: Batch) -> None:
    """hfscale's training step on one micro-batch, by one process, where the model is."""
    from hfscale.training.language_loss import language_model_loss
    from hfscale.training.losses import classification_loss
    from hfscale.training.seq2seq_loss import seq2seq_loss
    from hfscale.training.step import train_step

    loss_fn: Any = language_model_loss
    if workload.objective == "seq2seq":
        loss_fn = seq2seq_loss(model.config, workload.label_smoothing)
    elif workload.objective not in ("causal", "masked"):
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
    if workload.objective in ("causal", "masked"):
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
    if workload.target_length is not None:
        inputs["labels"] = torch.ones(batch_size, workload.target_length, dtype=torch.int64)
        return Batch(inputs, batch_size, batch_size * workload.tokens_per_sequence)
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
