"""Predicted peak memory beside what a GPU's allocator hands out.

    python benchmarks/plan_gpu.py --predict plan.json                        # anywhere
    python benchmarks/plan_gpu.py --predictions plan.json --out memory.md    # on a machine with a GPU

The first command does what `hfscale plan` does, on fake tensors. The second runs hfscale's training step on the GPU,
three times, and asks `torch.cuda.max_memory_allocated` about the last. Four-bit weights are bitsandbytes' own there.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import nn

from hfscale.launch.plan.adapters import add_adapter
from hfscale.launch.plan.architecture import build_model, num_layers
from hfscale.launch.plan.fake_step import Variant, example_batch, run_step
from hfscale.launch.plan.memory import measure_steps, no_extra
from hfscale.launch.plan.timeline import MEASURED
from hfscale.launch.plan.workload import Workload
from hfscale.schemas import LoraSettings
from hfscale.training.optimizers import build_optimizer

BATCHES = (4, 8, 16)
WAYS = {
    "full, fp32": Variant(weights="fp32", autocast=False),
    "full, bf16": Variant(weights="fp32", autocast=True),
    "full, bf16 + checkpointing": Variant(weights="fp32", autocast=True, checkpointing=True),
    "LoRA, rank 8, bf16": Variant(weights="bf16", autocast=True, lora=LoraSettings(r=8)),
    "4-bit + LoRA, rank 8": Variant(weights="bf16", autocast=True, lora=LoraSettings(r=8), bits=4),
}


def workloads() -> list[Workload]:
    """GPT-2 small, a Llama of 0.3 B weights, BERT-base and MiniLM as classifiers."""
    from transformers import BertConfig, GPT2Config, LlamaConfig

    ends: Any = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    gpt2 = GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **ends)
    llama: Any = LlamaConfig(
        vocab_size=32000,
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=16,
        num_attention_heads=16,
        num_key_value_heads=4,
        **ends,
    )
    minilm = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    causal: Any = {"objective": "causal", "sequence_length": 1024, "global_batch_size": 16}
    label: Any = {"objective": "single_label_classification", "sequence_length": 128, "global_batch_size": 16}
    return [
        Workload(name="GPT-2 small", config=gpt2, **causal),
        Workload(name="Llama, 0.3 B", config=llama, **causal),
        Workload(name="BERT-base, classifier", config=BertConfig(), **label),
        Workload(name="MiniLM, classifier", config=minilm, **label),
    ]


def predict() -> dict[str, float]:
    """Bytes by `model | way | micro-batch`."""
    found = {}
    for workload in workloads():
        steps = measure_steps(workload, list(WAYS.values()), share=16)
        for way, variant in WAYS.items():
            for batch in BATCHES:
                parts = steps[variant].parts(batch, np.ones(len(MEASURED)), no_extra())
                found[f"{workload.name} | {way} | {batch}"] = float(parts.sum())
    return found


def real_model(workload: Workload, variant: Variant) -> Any:
    """As a run has it on the GPU: dropout and attention are torch's own."""
    dtype = torch.float32 if variant.weights == "fp32" else torch.bfloat16
    with torch.device("cuda"):
        model = build_model(workload, workload.config, dtype)
    if variant.bits == 4:
        _quantize(model.base_model)
        model = model.to("cuda")
    if variant.lora is not None:
        add_adapter(model, variant.lora, train_head=not workload.is_language_model)
        model = model.to("cuda")
    if variant.checkpointing:
        from hfscale.training.activation_checkpointing import checkpoint_activations

        checkpoint_activations(model)
    return model


def _quantize(model: nn.Module) -> None:
    import bitsandbytes

    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Linear:
                child.cpu()  # weights are packed on their way to the GPU
                made = bitsandbytes.nn.Linear4bit(
                    child.in_features, child.out_features, child.bias is not None, compute_dtype=torch.bfloat16,
                    compress_statistics=True, quant_type="nf4",
                )  # fmt: skip
                made.weight = bitsandbytes.nn.Params4bit(
                    child.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4"
                )
                made.bias = child.bias
                setattr(parent, name, made)


def real_peak(workload: Workload, variant: Variant, batch_size: int) -> int:
    """Most bytes allocated at once in the third step."""
    model = real_model(workload, variant)
    optimizer = build_optimizer(model, workload.optim)
    batch = example_batch(workload, batch_size)
    for name, tensor in batch.inputs.items():
        batch.inputs[name] = tensor.to("cuda")
    for _ in range(3):
        torch.cuda.reset_peak_memory_stats()
        run_step(workload, variant, model, optimizer, batch)
    return torch.cuda.max_memory_allocated()


def compare(predictions: dict[str, float], out: Path | None) -> None:
    lines = [
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}; MiB", "",
        "| model | way | micro-batch | predicted | allocated | off |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    print("\n".join(lines), flush=True)
    offs = []
    for workload in workloads():
        assert num_layers(workload.config)
        for way, variant in WAYS.items():
            if variant.bits == 4 and workload.config.model_type == "gpt2":
                continue  # its layers are none of nn.Linear's
            for batch in BATCHES:
                key = f"{workload.name} | {way} | {batch}"
                try:
                    real = real_peak(workload, variant, batch)
                except Exception as error:  # the other rows are wanted, too
                    lines.append(f"| {key} | {predictions[key] / 2**20:.0f} | {type(error).__name__}: {error} |")
                else:
                    off = predictions[key] / real - 1
                    offs.append(abs(off))
                    lines.append(f"| {key} | {predictions[key] / 2**20:.0f} | {real / 2**20:.0f} | {off:+.1%} |")
                print(lines[-1], flush=True)
                gc.collect()
                torch.cuda.empty_cache()
    lines.append(f"\nfurthest off: {max(offs):.1%}; within 10%: {sum(off <= 0.1 for off in offs)} of {len(offs)}")
    print(lines[-1], flush=True)
    if out:
        out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predict", type=Path, help="file to write predictions to")
    parser.add_argument("--predictions", type=Path, help="file with predictions to compare a GPU with")
    parser.add_argument("--out", type=Path, help="file for the table")
    arguments = parser.parse_args()
    if arguments.predict:
        arguments.predict.write_text(json.dumps(predict(), indent=1))
    else:
        compare(json.loads(arguments.predictions.read_text()), arguments.out)
