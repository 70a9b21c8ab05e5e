"""Predicted peak memory beside what torch's allocator really hands out, on a CPU.

    OMP_NUM_THREADS=1 python benchmarks/plan_accuracy.py

Each step runs twice: on fake tensors, at two depths and two micro-batch sizes through which lines are drawn to the
whole model and the wanted size, as `hfscale plan` does; and on real tensors under torch's profiler, whose records of
every allocation and release are added up (`tests/support/real_memory.py`). Prints a table; ends with status 1 where
one is more than 5% off.
"""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hfscale.launch.plan.adapters import has_peft
from hfscale.launch.plan.architecture import num_layers
from hfscale.launch.plan.fake_step import Variant
from hfscale.launch.plan.memory import measure_steps, no_extra
from hfscale.launch.plan.timeline import MEASURED
from hfscale.launch.plan.workload import Workload
from hfscale.schemas import LoraSettings
from tests.support.real_memory import real_peak


def workloads() -> list[Workload]:
    """BERT-mini, MiniLM-L6, a GPT-2 and a Llama of 6 layers, and encoder-decoders: T5-small and a Marian of Multi30k's
    shape."""
    from transformers import BertConfig, GPT2Config, LlamaConfig, MarianConfig, T5Config

    ends: Any = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    mini = BertConfig(hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024)
    minilm = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    gpt2 = GPT2Config(vocab_size=16000, n_embd=384, n_layer=6, n_head=6, attn_pdrop=0.0, **ends)
    llama: Any = LlamaConfig(
        vocab_size=16000,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=2,
        **ends,
    )
    sides: Any = {f"{side}_attention_heads": 4 for side in ("encoder", "decoder")}
    sides |= {f"{side}_layers": 3 for side in ("encoder", "decoder")}
    sides |= {f"{side}_ffn_dim": 512 for side in ("encoder", "decoder")}
    starts: Any = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    marian = MarianConfig(vocab_size=8000, d_model=256, dropout=0.1, attention_dropout=0.1, **sides, **starts)
    pairs: Any = {"objective": "seq2seq", "sequence_length": 128, "label_smoothing": 0.1, "global_batch_size": 16}
    common: Any = {"global_batch_size": 16}
    return [
        Workload(name="BERT-mini, masked", config=mini, objective="masked", sequence_length=128, **common),
        Workload(
            name="MiniLM, classifier",
            config=minilm,
            objective="single_label_classification",
            sequence_length=128,
            **common,
        ),
        Workload(name="GPT-2-shaped", config=gpt2, objective="causal", sequence_length=256, **common),
        Workload(name="Llama-shaped", config=llama, objective="causal", sequence_length=256, **common),
        Workload(name="T5-small", config=T5Config(decoder_start_token_id=0), target_length=64, **pairs),
        Workload(name="Marian, 3 + 3 layers", config=marian, target_length=128, **pairs),
    ]


def main() -> None:
    """Measure all, print the table."""
    full = Variant(weights="fp32", autocast=False, device="cpu")
    ways = {"full": full, "full + checkpointing": Variant(**{**vars(full), "checkpointing": True})}
    if has_peft():
        ways["LoRA, rank 8"] = Variant(**{**vars(full), "lora": LoraSettings(r=8)})
    else:
        print("LoRA is left out: peft is not installed")
    print(f"{date.today()}, peak in MiB\n\n| model | way | micro-batch | predicted | real | off |")
    print("| --- | --- | --- | --- | --- | --- |")
    worst = 0.0
    for workload in workloads():
        steps = measure_steps(workload, list(ways.values()), share=16)
        for name, variant in ways.items():
            for batch in (4, 8, 16):
                predicted = float(steps[variant].parts(batch, np.ones(len(MEASURED)), no_extra()).sum())
                real = real_peak(workload, variant, num_layers(workload.config), batch)
                off = predicted / real - 1
                worst = max(worst, abs(off))
                print(
                    f"| {workload.name} | {name} | {batch} | {predicted / 2**20:.1f} | {real / 2**20:.1f} "
                    f"| {off:+.1%} |",
                    flush=True,
                )
    print(f"\nfurthest off: {worst:.1%}")
    sys.exit(worst > 0.05)


if __name__ == "__main__":
    main()
