"""Fake steps take what real ones take, and a line through two depths meets the whole depth."""

from __future__ import annotations

import dataclasses
import importlib.util
from typing import Any

import numpy as np
import pytest
import torch

from hfscale.launch.plan.architecture import num_parameters
from hfscale.launch.plan.fake_step import Variant, measure, prepared_model, start_optimizer
from hfscale.launch.plan.gpu_kernels import attention
from hfscale.launch.plan.memory import StepMemory, measure_steps, no_extra
from hfscale.launch.plan.timeline import MEASURED
from hfscale.launch.plan.workload import Workload
from hfscale.schemas import LoraSettings, OptimSettings
from hfscale.training.optimizers import build_optimizer
from tests.support.real_memory import real_peak

ALL = np.ones(len(MEASURED))
HEADS = {"attention_heads": 2, "ffn_dim": 128}
VARIANTS = [
    Variant(weights="fp32", autocast=False, device="cpu"),
    Variant(weights="fp32", autocast=False, checkpointing=True, device="cpu"),
    Variant(weights="fp32", autocast=False, lora=LoraSettings(r=4), device="cpu"),
]


def workload(kind: str, layers: int = 3) -> Workload:
    from transformers import AutoConfig

    if kind in ("t5", "marian"):
        return seq2seq_workload(kind, layers, layers)
    shape = {"vocab_size": 2000, "hidden_size": 64, "num_hidden_layers": layers, "num_attention_heads": 2}
    if kind == "bert":
        shape |= {"intermediate_size": 128, "attention_probs_dropout_prob": 0.0}
    if kind == "llama":
        shape |= {"intermediate_size": 128, "num_key_value_heads": 1, "pad_token_id": 0}
    ends = {"bos_token_id": 1, "eos_token_id": 2} if kind != "bert" else {}
    config = AutoConfig.for_model(kind, **shape, **ends)
    objective = "single_label_classification" if kind == "bert" else "causal"
    return Workload(name=kind, config=config, objective=objective, sequence_length=64, global_batch_size=4)  # type: ignore[arg-type]


def seq2seq_workload(kind: str, encoder_layers: int, decoder_layers: int) -> Workload:
    """Reads 64 tokens and writes 48."""
    from transformers import AutoConfig

    shape = {"vocab_size": 2000, "d_model": 64, "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}
    if kind == "t5":
        depths = {"num_layers": encoder_layers, "num_decoder_layers": decoder_layers}
        shape |= {**depths, "num_heads": 2, "d_kv": 32, "d_ff": 128}
    else:
        depths = {"encoder_layers": encoder_layers, "decoder_layers": decoder_layers}
        sides = {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in HEADS.items()}
        shape |= {**depths, **sides, "max_position_embeddings": 64, "attention_dropout": 0.1}
    config = AutoConfig.for_model(kind, **shape, forced_eos_token_id=None)
    lengths: Any = {"sequence_length": 64, "target_length": 48, "label_smoothing": 0.1}
    return Workload(name=kind, config=config, objective="seq2seq", global_batch_size=4, **lengths)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "t5", "marian"])
@pytest.mark.parametrize("variant", VARIANTS, ids=["full", "checkpointing", "lora"])
def test_fake_equals_real(kind: str, variant: Variant) -> None:
    if variant.lora and importlib.util.find_spec("peft") is None:
        pytest.skip("peft is not installed")
    training = workload(kind)
    predicted = measure(training, variant, 3, 8).peaks(ALL).sum(1).max()
    assert predicted == pytest.approx(real_peak(training, variant, 3, 8), rel=0.05)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs the extra `quant`")
@pytest.mark.parametrize("batch_size", [1, 8])  # where the update is the highest moment, and where it is not
def test_fake_equals_real_with_a_state_in_8_bits(batch_size: int) -> None:
    training = dataclasses.replace(workload("llama"), optim=OptimSettings(name="adamw8bit"))
    line = measure(training, VARIANTS[0], 3, batch_size)
    assert line.peaks(ALL).sum(1).max() == pytest.approx(real_peak(training, VARIANTS[0], 3, batch_size), rel=0.01)

    model = prepared_model(training, VARIANTS[0], 3)
    optimizer = build_optimizer(model, training.optim)
    start_optimizer(model, optimizer)
    states = [each for state in optimizer.state.values() for each in state.values() if isinstance(each, torch.Tensor)]
    held = {each.data_ptr(): each.numel() * each.element_size() for each in states}
    assert line.parts[0, MEASURED.index("optimizer")] == sum(held.values())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_prompt_is_counted(kind: str) -> None:
    variant = Variant(weights="fp32", autocast=False, lora=LoraSettings(method="prompt", tokens=8), device="cpu")
    training = workload(kind)
    line = measure(training, variant, 3, 8)
    assert line.num_trained == 8 * 64
    assert line.peaks(ALL).sum(1).max() == pytest.approx(real_peak(training, variant, 3, 8), rel=0.05)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_two_depths_meet_the_whole(checkpointing: bool) -> None:
    training = workload("llama", layers=7)
    variant = Variant(weights="bf16", autocast=False, checkpointing=checkpointing)
    lines = {(depth, batch): measure(training, variant, depth, batch) for depth in (2, 3) for batch in (16, 32)}
    del lines[3, 32]
    line = StepMemory(7, (2, 3), (16, 32), lines)
    for batch in (16, 48):
        whole = measure(training, variant, 7, batch)
        for factors in (ALL, np.array([1 / 8, 1 / 8, 0, 1, 1, 0])):
            expected = whole.peaks(factors).sum(1).max()
            assert line.parts(batch, factors, no_extra()).sum() == pytest.approx(expected, rel=0.05)
        assert line.flops(batch) == pytest.approx(whole.flops, rel=0.01)


def test_encoder_and_decoder_of_different_depths_meet_the_whole() -> None:
    """Cut into four parts of two layers and one; on a GPU, with T5's learning positions."""
    training = seq2seq_workload("t5", 8, 4)
    variant = Variant(weights="fp32", autocast=True)
    steps = measure_steps(training, [variant], share=4)[variant]
    whole = measure(training, variant, 4, 6)
    assert steps.layers == 4 and steps.depths == (2, 3) and steps.num_trained == num_parameters(training)
    assert steps.parts(6, ALL, no_extra()).sum() == pytest.approx(whole.peaks(ALL).sum(1).max(), rel=0.01)
    assert steps.flops(6) == pytest.approx(whole.flops, rel=0.01)


def test_attention_as_on_a_gpu_is_attention() -> None:
    """With a mask that learns, as T5's, and another scale; dropout leaves no trace."""
    tensors = [torch.randn(2, 3, 8, 16, requires_grad=True) for _ in range(3)]
    bias = torch.randn(2, 3, 8, 8, requires_grad=True)
    outputs = []
    for function in (attention, torch.nn.functional.scaled_dot_product_attention):
        out = function(*tensors, attn_mask=bias, scale=1.0)
        outputs.append((out, *torch.autograd.grad(out.square().sum(), tensors)))
    for one, other in zip(*outputs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert torch.equal(attention(*tensors, bias, dropout_p=0.9, scale=1.0), outputs[0][0])


def test_flops_are_those_of_the_products() -> None:
    """A linear layer multiplies twice its weights per token forward, and twice that backward."""
    training = workload("llama")
    line = measure(training, VARIANTS[0], 1, 2)
    body = 64 * 64 * 2 + 64 * 32 * 2 + 64 * 128 * 3
    products = 6 * (2 * 64 * body + 2 * 63 * 2000 * 64)
    attention = (4 + 10) * 2 * 2 * 64 * 64 * 32
    assert line.flops == pytest.approx(products + attention, rel=0.01)


def test_more_memory_with_accumulated_gradients() -> None:
    line = measure(workload("llama"), VARIANTS[0], 3, 8)
    assert line.peaks(ALL, accumulates=True).sum(1).max() > line.peaks(ALL).sum(1).max()


def test_shallow_model_is_measured_whole() -> None:
    training = workload("llama", layers=2)
    steps = measure_steps(training, VARIANTS[:1], share=4)
    assert steps[VARIANTS[0]].depths == (2,)


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="needs the extra `peft`")
def test_what_stays_whole_beside_few_bits_and_what_passes_is_wider() -> None:
    """Embeddings in float32, and products that bitsandbytes hands on as wide as what they read."""
    training = workload("llama")
    narrow = Variant(weights="bf16", autocast=True, lora=LoraSettings(r=4), bits=4)
    lines = [measure(training, each, 3, 8) for each in (narrow, dataclasses.replace(narrow, kept="fp32"))]
    sums = [dict(zip(MEASURED, line.peaks(ALL).max(0), strict=True)) for line in lines]
    two_tables = 2 * 2000 * 64  # token embeddings and output layer: two bytes more for each weight
    assert sums[1]["weights"] - sums[0]["weights"] == pytest.approx(2 * two_tables, rel=0.02)
    assert sums[1]["activations"] > 1.1 * sums[0]["activations"]
