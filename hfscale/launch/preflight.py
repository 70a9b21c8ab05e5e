"""What can be known of a run before its first step: whether it fits, and what the model is going to see."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from hfscale import console
from hfscale.errors import LaunchError
from hfscale.launch.example import describe_example, describe_pair, describe_special_tokens

if TYPE_CHECKING:
    from accelerate import Accelerator

    from hfscale.batch import Batch
    from hfscale.launch.plan.workload import Workload

_TIGHT, _TOO_MUCH = 0.9, 1.1  # of what is there: predictions are within a tenth of what a GPU hands out
_EASY = 0.25  # below that share of what is there by a rough bound nothing is measured


def preflight(
    accelerator: Accelerator, config: Any, model: Any, batches: Any, tokenizer: Any = None, objective: Any = None
) -> None:
    """Compare the predicted peak memory with what there is, and show the first example and the special tokens.

    Disk and write access are looked at where the run folder is claimed and where training begins.

    Args:
        tokenizer: None for images.
        objective: of a transformer, as `hfscale plan` takes it; None for the small networks, which fit anywhere.

    Raises:
        LaunchError: where the memory can't be enough, with what to try.
    """
    if not config.train.preflight:
        return
    first: Batch = batches[0][0]
    if tokenizer is not None:
        console.say(f"tokens     {describe_special_tokens(tokenizer)}")
    if objective == "seq2seq":
        console.say(f"example    {describe_pair(first, tokenizer)}")
    else:
        names = dict(model.config.id2label or {}) if objective not in ("causal", "masked") else {}
        console.say(f"example    {describe_example(first, tokenizer, names)}")
    if objective is not None:
        _compare_memory(accelerator, config, model, first, objective)


def _compare_memory(accelerator: Accelerator, config: Any, model: Any, batch: Batch, objective: Any) -> None:
    from hfscale.launch.plan.sources import adapter_of
    from hfscale.launch.plan.workload import Workload

    size, length = batch.inputs["input_ids"].shape
    workload = Workload(
        name=model.config.model_type,
        config=model.config,
        objective=objective,
        sequence_length=length,
        global_batch_size=config.train.global_batch_size,
        micro_batch_size=size,
        precision="bf16" if accelerator.mixed_precision == "bf16" else "fp32",
        optim=config.optim,
        masked_fraction=config.mask.fraction if objective == "masked" else 0.15,
        target_length=batch.inputs["labels"].shape[1] if objective == "seq2seq" else None,
        label_smoothing=getattr(config, "label_smoothing", 0.0),
        num_labels=getattr(model.config, "num_labels", 2),
        trust_remote_code=config.model.trust_remote_code,
        **adapter_of(config),
    )
    there = _bytes_there(accelerator, model)
    accumulates = config.train.global_batch_size > size * accelerator.num_processes
    try:
        if rough_bound(workload, model) < _EASY * there:
            return console.say(f"memory     far below the {_gib(there)} that are free")
        if not accelerator.is_main_process:
            return
        predicted = predicted_bytes(accelerator, workload, model, accumulates, config.train.activation_checkpointing)
    except Exception as error:  # a model that can't be measured can be trained nevertheless
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        return console.say(f"memory     not predicted for a {workload.name} model ({reason})")
    _judge(predicted, there, config)


def _judge(predicted: float, there: float, config: Any) -> None:
    words = f"predicted peak {_gib(predicted)} of the {_gib(there)} that are free for this process"
    if predicted > _TOO_MUCH * there:
        advice = [] if config.train.activation_checkpointing else ["--train.activation_checkpointing true"]
        advice += ["a smaller --train.micro_batch_size", "more processes under accelerate_configs/zero3.yaml"]
        raise LaunchError(f"{words}; try {', '.join(advice)}, or --train.preflight false to train nevertheless")
    if predicted > _TIGHT * there:
        return console.warn(f"{words}: it may not be enough")
    console.say(f"memory     {words}")


def predicted_bytes(
    accelerator: Accelerator, workload: Workload, model: Any, accumulates: bool, checkpointing: bool
) -> float:
    """Peak of one process, from a training step on fake tensors (`hfscale plan`); takes seconds."""
    from hfscale.launch.plan.fake_step import Variant
    from hfscale.launch.plan.memory import measured_at
    from hfscale.launch.plan.strategies import Strategy
    from hfscale.training.state import num_elements

    zero = accelerator.state.deepspeed_plugin
    fsdp = getattr(accelerator.state, "fsdp_plugin", None)
    if workload.bits and zero is not None and zero.zero_stage == 3:
        raise LaunchError("shares of quantized weights under ZeRO stage 3 can't be predicted")
    strategy = Strategy(
        name="this run",
        zero_stage=3 if fsdp is not None else zero.zero_stage if zero is not None else 0,
        offload_optimizer=zero is not None and zero.offload_optimizer_device == "cpu",
        offload_weights=zero is not None and zero.offload_param_device == "cpu",
        checkpointing=checkpointing,
    )
    if reason := strategy.refusal(workload):
        raise LaunchError(reason)
    device = "gpu" if accelerator.device.type == "cuda" else "cpu"
    variant = Variant(
        # What multiplies with quantized weights keeps no copy of them, as it would of whole ones under autocast.
        weights="bf16" if workload.bits and workload.precision == "bf16" else "fp32",
        autocast=workload.precision == "bf16",
        lora=workload.lora,
        bits=workload.bits,
        kept="fp32" if workload.bits and workload.precision == "bf16" else None,
        checkpointing=checkpointing,
        device=device,
    )
    assert workload.micro_batch_size
    step = measured_at(workload, variant, workload.micro_batch_size)
    weights, number = sum(map(num_elements, model.parameters())), accelerator.num_processes
    extra = strategy.extra(workload, step.num_trained, weights, number)
    return float(step.parts(workload.micro_batch_size, strategy.factors(number), extra, accumulates).sum())


def rough_bound(workload: Workload, model: Any) -> float:
    """Bytes that training won't need, at a glance: twice what Korthikanti et al. 2022 (arXiv:2205.05198, equation 2)
    count for the activations of a layer in 16 bits, for all layers, beside 24 bytes per weight and the logits, of
    which an encoder-decoder has six tables at most. Its layers are taken to read both texts."""
    from hfscale.launch.plan.architecture import stacks
    from hfscale.training.state import num_elements

    config, length, size = workload.config, workload.tokens_per_sequence, workload.micro_batch_size or 1
    hidden, heads = config.hidden_size, getattr(config, "num_attention_heads", 1)
    layer = length * size * hidden * (34 + 5 * heads * length / hidden)
    weights = 24 * sum(map(num_elements, model.parameters()))
    logits = 6 * 4 * workload.num_targets(size) * config.vocab_size if workload.objective == "seq2seq" else 2**29
    return weights + 4 * layer * sum(stacks(config).values()) + logits


def _bytes_there(accelerator: Accelerator, model: Any) -> float:
    """Free memory that one process may count on, with what the model takes already."""
    import torch

    if accelerator.device.type == "cuda":
        return float(torch.cuda.mem_get_info(accelerator.device)[0])
    import psutil

    held = sum(each.numel() * each.element_size() for each in model.parameters() if not each.is_meta)
    return psutil.virtual_memory().available / int(os.environ.get("LOCAL_WORLD_SIZE", "1")) + held


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
