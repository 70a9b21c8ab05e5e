"""Getting DeepSpeed ready, and refusing what its settings say where hfscale's own decide."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hfscale.errors import LaunchError, MissingExtraError

if TYPE_CHECKING:
    from accelerate import Accelerator

_OURS = {
    "optimizer": "--optim.name",
    "scheduler": "--optim.schedule",
    "gradient_clipping": "--optim.max_grad_norm",
    "gradient_accumulation_steps": "--train.micro_batch_size and --train.global_batch_size",
    "train_micro_batch_size_per_gpu": "--train.micro_batch_size",
    "train_batch_size": "--train.global_batch_size",
    "bf16": "--train.precision bf16",
    "fp16": "--train.precision bf16",
    "torch_autocast": "--train.precision bf16",
    "amp": "--train.precision bf16",
    "data_types": "--train.precision bf16",
    "communication_data_type": "--train.precision bf16",
    "prescale_gradients": "the number of targets in a batch",
    "gradient_predivide_factor": "the number of targets in a batch",
    "curriculum_learning": "--train.seed",
    "activation_checkpointing": "--train.activation_checkpointing",
}
"""What a DeepSpeed configuration may say, and the setting that decides it here."""


def quieten_deepspeed() -> None:
    """Accelerate imports DeepSpeed, which would complain where there is no GPU; to be called before that."""
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def prepare_deepspeed(has_gpu: bool) -> None:
    """Before DeepSpeed starts.

    On a machine without a GPU it would compile an exchange of its own over shared memory, for a minute; gloo does
    without.

    Raises:
        MissingExtraError: where it is not installed.
    """
    if importlib.util.find_spec("deepspeed") is None:
        raise MissingExtraError("ZeRO comes with an extra: pip install 'hfscale[deepspeed]'")
    # It calls these by the names they had before torch 2.13, again and again.
    old = "(all_gather_into_tensor|reduce_scatter_tensor)"
    warnings.filterwarnings("ignore", f".*{old}` is deprecated", FutureWarning)
    import deepspeed.ops

    if not has_gpu:
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def take_over(accelerator: Accelerator, prompt: bool = False) -> None:
    """Refuse what a DeepSpeed configuration says of the training itself, and shard no model while it is loaded.

    Raises:
        LaunchError: naming the entry, and the setting that decides it; for stage 0, which shares nothing out; for
            stage 3 of a model with a trained `prompt`, which PEFT would gather on the first process alone.
    """
    plugin: Any = accelerator.state.deepspeed_plugin
    if plugin.zero_stage not in (1, 2, 3):
        raise LaunchError(
            f"DeepSpeed's zero_stage is {plugin.zero_stage}, which shares nothing out; use 1, 2 or 3, or "
            "accelerate_configs/ddp.yaml"
        )
    if prompt and plugin.zero_stage == 3:
        raise LaunchError(
            "--lora.method prompt does not work under ZeRO stage 3; use accelerate_configs/zero2.yaml, or another "
            "method"
        )
    same = ("bf16",) if accelerator.mixed_precision == "bf16" else ()  # accelerate has put it there
    refuse_training_settings({name: value for name, value in plugin.deepspeed_config.items() if name not in same})
    # Else transformers shards a model while it loads it, and it can't be tried, counted or given a new head.
    plugin.dschf = None


def awaits_weights(accelerator: Accelerator) -> bool:
    """Whether this process gets its share of the weights from the first one, and should load none: under ZeRO stage 3
    all others do. Under FSDP2 each loads its own: accelerate tells an optimizer's weights apart by where they lie."""
    plugin = accelerator.state.deepspeed_plugin
    return plugin is not None and plugin.zero_stage == 3 and not accelerator.is_main_process


def refuse_training_settings(config: Mapping[str, Any]) -> None:
    """Raises `LaunchError` for an entry of a DeepSpeed configuration that `fit` would override without a word."""
    for name, setting in _OURS.items():
        value = config.get(name)
        if isinstance(value, Mapping) and value.get("enabled") in (False, "auto"):
            continue
        if (
            value is not False
            and value not in (None, "auto", {})
            and not (name == "gradient_accumulation_steps" and value == 1)
        ):
            raise LaunchError(f"the DeepSpeed configuration says {name}: leave it out, {setting} decides it")
