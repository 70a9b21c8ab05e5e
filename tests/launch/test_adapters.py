"""QLoRA on two real processes: the losses of one process, and an adapter that PEFT loads with the same logits."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hfscale.models import saved_text_classifier
from hfscale.schemas import ModelSettings
from tests.launch.test_zero import STEPS, Runs, assert_done, bert
from tests.support.commands import records, result

NEEDED = ("deepspeed", "peft", "bitsandbytes")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # PEFT's own call
]
CONFIGS = ("ddp", "zero2", "zero3")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    made = Runs(tmp_path_factory.mktemp("qlora"), bert)
    made.words += ["--lora.r", 4, "--quant.bits", 4]
    finished = made.alone("whole")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return made


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "adapter_model.safetensors")


def logits(model: Any) -> torch.Tensor:
    ids = torch.tensor([[2, 8, 17, 21, 3], [2, 9, 10, 11, 3]])
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


def with_peft(runs: Runs, run: Path) -> Any:
    """As somebody does who has PEFT alone."""
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForSequenceClassification, BitsAndBytesConfig

    config: Any = AutoConfig.from_pretrained(run / "model")
    in_bits = BitsAndBytesConfig(**config.hfscale_quantization)
    base = AutoModelForSequenceClassification.from_pretrained(
        runs.folder / "bert", config=config, ignore_mismatched_sizes=True, quantization_config=in_bits
    )
    return PeftModel.from_pretrained(base, run / "model").eval()


@pytest.mark.parametrize("config", CONFIGS)
def test_qlora_on_two_processes_is_that_of_one(runs: Runs, config: str, tmp_path: Path) -> None:
    hooks = {} if config == "ddp" else {"count_shares": str(tmp_path)}
    run, whole = runs.folder / config, runs.folder / "whole"
    assert_done(run, runs.two(config, config, **hooks))
    assert [record["step"] for record in records(run)] == list(range(1, STEPS + 1))
    for record, expected in zip(records(run), records(whole), strict=True):
        for name in ("loss", "grad_norm", "eval_loss"):
            assert record.get(name, 0) == pytest.approx(expected.get(name, 0), abs=1e-5)
    weights, expected_weights = weights_of(run), weights_of(whole)
    assert weights.keys() == expected_weights.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(weight, expected_weights[name], atol=1e-5, rtol=0, msg=name)
    trained = result(run)["num_trained_parameters"]
    assert trained == result(whole)["num_trained_parameters"] == sum(map(torch.numel, weights.values()))

    ours = saved_text_classifier(run / "model", base=ModelSettings(name=str(runs.folder / "bert"))).model
    torch.testing.assert_close(logits(with_peft(runs, run)), logits(ours), atol=1e-6, rtol=0)
    torch.testing.assert_close(logits(ours), logits(with_peft(runs, whole)), atol=1e-5, rtol=0)

    shares = [json.loads(path.read_text()) for path in tmp_path.glob("shares-*.json")]
    assert len(shares) == (2 if hooks else 0)
    packed = result(whole)["num_parameters"]  # of which quantized ones hold two in an element
    for share in shares:
        assert share["moments"] == pytest.approx(trained, rel=0.1), "two moments of half of the trained weights"
        assert (share["weights"] < packed / 2) is (config == "zero3")


def test_killed_under_zero3_and_gone_on_with_it_ends_with_the_same_bits(runs: Runs) -> None:
    whole = runs.folder / "zero3"
    if not whole.exists():
        assert_done(whole, runs.two("zero3", "zero3"))
    assert runs.two("zero3", "killed", signal_in_training=("SIGKILL", 2 * 6 + 1)).returncode != 0
    finished = runs.two("zero3", "killed")
    assert_done(runs.folder / "killed", finished)
    assert "resumed    from step-000004; 10 steps in all" in finished.stdout
    weights, expected = weights_of(runs.folder / "killed"), weights_of(whole)
    assert weights.keys() == expected.keys() and all(torch.equal(weights[name], expected[name]) for name in weights)


def test_an_optimizer_in_8_bits_is_refused_under_zero(runs: Runs) -> None:
    runs_8bit = Runs(runs.folder / "8bit", bert)
    runs_8bit.words += ["--lora.r", 4, "--optim.name", "adamw8bit"]
    finished = runs_8bit.two("zero2", "run")
    errors = [line for line in finished.stderr.splitlines() if "error: " in line]
    assert finished.returncode != 0 and any("adamw8bit can't be shared out" in line for line in errors)
