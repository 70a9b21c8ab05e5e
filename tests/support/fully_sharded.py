"""Five steps of hfscale's training on a model that `fully_shard` shares out over the processes.

    torchrun --nproc_per_node 2 -m tests.support.fully_sharded '{"folder": F, "kind": "bert" or "gpt2", "resume": F}'

Writes losses, norms, whole weights, and the numbers each process holds to `found.pt`, and the state after three steps
to `state.pt`; with `resume` it begins with the state of another such run.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import transformers
from accelerate import Accelerator
from accelerate.utils import FullyShardedDataParallelPlugin

from hfscale.batch import Batch
from hfscale.models import prepare_language_model
from hfscale.schemas import OptimSettings
from hfscale.training import build_optimizer, classification_loss, fsdp, language_model_loss
from hfscale.training.step import train_step
from hfscale.training.zero import load_whole_weights, whole_weights

_STEPS, _SAVED = 5, 3


def build(kind: str) -> tuple[Any, Any]:
    """(model, loss)."""
    torch.manual_seed(0)
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    if kind == "bert":
        config = transformers.BertConfig(
            vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, **none
        )
        loss = classification_loss("single_label_classification")
        return transformers.BertForSequenceClassification(config), loss
    none = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    shape = {"vocab_size": 100, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}
    config = transformers.GPT2Config(**shape, **none, bos_token_id=0, eos_token_id=0)
    return prepare_language_model(transformers.GPT2LMHeadModel(config)), language_model_loss


def share_out(accelerator: Accelerator, model: Any, optimizer: Any) -> tuple[Any, Any]:
    """As `fit` does on GPUs; on a CPU accelerate's `prepare` would share nothing out, and this is its inside."""
    accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        cpu_ram_efficient_loading=True,
        reshard_after_forward=True,
        state_dict_type="SHARDED_STATE_DICT",
    )
    fsdp.configure(accelerator, model)
    model, optimizer = accelerator._prepare_fsdp2(model, optimizer)
    return model, optimizer.optimizer


def batch(kind: str, step: int, rank: int, number: int) -> Batch:
    generator = torch.Generator().manual_seed(step)
    ids = torch.randint(5, 100, (8, 16), generator=generator)
    inputs = {"input_ids": ids}
    if kind == "bert":
        inputs |= {"attention_mask": torch.ones_like(ids), "labels": torch.arange(8) % 2}
    else:
        labels = torch.where(torch.rand(ids.shape, generator=generator) < 0.7, ids.roll(-1, 1), -100)
        places = torch.arange(16).expand(8, 16).contiguous()
        inputs |= {"labels": labels, "position_ids": places, "piece_ids": torch.ones_like(ids)}
    part = {name: tensor.chunk(number)[rank] for name, tensor in inputs.items()}
    return Batch(part, 8 // number, part["input_ids"].numel())


def main(settings: dict[str, Any]) -> None:
    accelerator, folder = Accelerator(cpu=True), Path(settings["folder"])
    rank, number = accelerator.process_index, accelerator.num_processes
    model, loss_fn = build(settings["kind"])
    optimizer = build_optimizer(model, OptimSettings(lr=1e-3))
    if number > 1:
        model, optimizer = share_out(accelerator, model, optimizer)
    losses, norms, begin = [], [], 0
    if "resume" in settings:
        state = torch.load(Path(settings["resume"]) / "state.pt", weights_only=True)
        losses, norms, begin = state["losses"], state["norms"], _SAVED
        load_whole_weights(accelerator, model, state["weights"])
        fsdp.load_moments(model, optimizer, state["moments"], {})
    for step in range(begin, _STEPS):
        micro_batches = [batch(settings["kind"], step, rank, number)]
        stats = train_step(accelerator, model, optimizer, micro_batches, loss_fn, 0.5)  # type: ignore[arg-type]
        losses.append(stats.loss)
        norms.append(stats.grad_norm)
        if step == _SAVED - 1:
            weights, moments, _ = fsdp.gathered_state(accelerator, model, optimizer)
            if accelerator.is_main_process:
                state = {"weights": weights, "moments": moments, "losses": list(losses), "norms": list(norms)}
                torch.save(state, folder / "state.pt")
    weights = whole_weights(accelerator, model) if number > 1 else dict(model.state_dict())
    held = [getattr(parameter, "_local_tensor", parameter).numel() for parameter in model.parameters()]
    shares = [None] * number
    if number > 1:
        dist.all_gather_object(shares, sum(held))
    else:
        shares = [sum(held)]
    if accelerator.is_main_process:
        known = {name: weights[name].clone() for name, _ in model.named_parameters()}
        torch.save({"losses": losses, "norms": norms, "weights": known, "shares": shares}, folder / "found.pt")
    accelerator.wait_for_everyone()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
    os._exit(0)  # a thread of gloo may abort a process that ends in its own time
