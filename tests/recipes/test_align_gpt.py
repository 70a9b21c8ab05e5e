"""Learning which of two answers is preferred, as a user does."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hfscale.data import ChatFormat
from hfscale.schemas import PairSettings
from tests.support.chat import CHATML, COLOURS, byte_tokenizer, tiny_gpt, write_json, write_tiny_gpt
from tests.support.commands import ROOT, assert_one_line, records, result
from tests.support.warm import WarmRun

pytest.importorskip("peft", reason="needs the extra `peft`")
BETA = 0.5


def pairs() -> list[dict[str, str]]:
    """The right colour is preferred to the one of the next thing."""
    colours = list(COLOURS.values())
    others = colours[1:] + colours[:1]
    return [
        {"prompt": f"Colour?\n\n{name}", "chosen": colour, "rejected": other}
        for (name, colour), other in zip(COLOURS.items(), others, strict=True)
    ]


def align(folder: Path, name: str, *flags: Any, **hooks: Any) -> Any:
    config = write_tiny_gpt(folder / "gpt", CHATML) / "config.json"
    config.write_text(
        config.read_text().replace('pdrop": 0.0', 'pdrop": 0.2')
    )  # the reference has none, and so no one
    rows = write_json(folder / "pairs.json", pairs())
    words = [ROOT / "recipes" / "align_gpt.py", "--model.name", folder / "gpt", "--data.train", rows]
    words += ["--data.validation", rows, "--data.max_length", 64, "--preference.beta", BETA, "--optim.lr", "1e-2"]
    words += ["--lora.dropout", 0.1, "--train.max_steps", 30, "--train.save_steps", 4, "--train.eval_steps", 15]
    words += ["--train.global_batch_size", 6, "--train.log_steps", 1, "--train.output_dir", folder / name, *flags]
    return WarmRun(tuple(words), folder / f"log{len(list(folder.iterdir()))}", hooks).wait()


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("align")
    finished = align(folder, "run")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    example = next(line for line in finished.stdout.splitlines() if line.startswith("example"))
    assert example.startswith("example    '<|start|>user") and "<|stop|>>>" in example
    return folder


def test_it_learns_what_is_preferred(aligned: Path) -> None:
    first, metrics = records(aligned / "run")[0], result(aligned / "run")["metrics"]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)  # nothing has changed yet
    assert metrics["accuracy"] == 1 and metrics["margin"] > 1 and metrics["loss"] < 0.3
    assert result(aligned / "run")["num_examples"] == {"train": 6, "validation": 6}
    card = (aligned / "run" / "model" / "README.md").read_text()
    assert "beta 0.5" in card and "library_name: peft" in card and str(aligned) not in card


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's own call
def test_the_metrics_are_those_of_the_formula(aligned: Path) -> None:
    """Log probabilities by transformers and PEFT alone, a conversation at a time."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    chat = ChatFormat(byte_tokenizer(CHATML), PairSettings(train="x"))
    base: Any = AutoModelForCausalLM.from_pretrained(aligned / "gpt")
    model = PeftModel.from_pretrained(base, aligned / "run" / "model").eval()

    def log_probability(asked: str, answer: str) -> float:
        ids, learned = chat.encode([{"role": "user", "content": asked}, {"role": "assistant", "content": answer}])
        tokens = torch.tensor(ids).long()
        with torch.no_grad():
            found = model(input_ids=tokens[None]).logits[0, :-1].log_softmax(-1).gather(1, tokens[1:, None])[:, 0]
        return float(found[torch.tensor(learned)[1:]].sum())

    margins = []
    for pair in pairs():
        answers = [log_probability(pair["prompt"], pair[name]) for name in ("chosen", "rejected")]
        with model.disable_adapter():
            before = [log_probability(pair["prompt"], pair[name]) for name in ("chosen", "rejected")]
        margins.append(BETA * (answers[0] - before[0] - (answers[1] - before[1])))
    losses = -torch.nn.functional.logsigmoid(torch.tensor(margins))
    metrics = result(aligned / "run")["metrics"]
    assert metrics["margin"] == pytest.approx(sum(margins) / len(margins), rel=1e-3)
    assert metrics["loss"] == pytest.approx(float(losses.mean()), rel=1e-3)


def test_killed_and_gone_on_with(aligned: Path) -> None:
    assert align(aligned, "killed", signal_in_training=("SIGKILL", 20)).returncode == -9
    gone_on = align(aligned, "killed")
    assert "resumed    from step-0000" in gone_on.stdout, gone_on.stderr
    one, other = (load_file(aligned / name / "model" / "adapter_model.safetensors") for name in ("run", "killed"))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_accumulated_or_not_it_is_the_same(aligned: Path) -> None:
    flags = ["--lora.dropout", 0.0, "--train.max_steps", 5, "--train.eval_steps", 5]
    for name, size in (("whole", 6), ("parts", 2)):
        finished = align(aligned, name, *flags, "--train.micro_batch_size", size)
        assert finished.returncode == 0, finished.stderr
    losses = [[record["loss"] for record in records(aligned / name)] for name in ("whole", "parts")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_mistakes_end_in_one_line(tmp_path: Path) -> None:
    assert_one_line(align(tmp_path, "run", "--lora.method", "pissa"), "--lora.method pissa", "lora, rslora")
    assert_one_line(align(tmp_path, "run", "--data.pack", "false"), "--data.pack has no effect")
    assert_one_line(align(tmp_path, "run", "--preference.beta", "0"), "--preference.beta must be greater")


def test_losses_one_by_one_sum_up_to_the_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the logits are computed for some positions at a time, and once more for the gradient."""
    from hfscale.models import prepare_language_model, targets

    monkeypatch.setattr(targets, "_positions_at_once", lambda vocabulary: 4)
    model = prepare_language_model(tiny_gpt(byte_tokenizer()))
    ids = torch.arange(5, 15)[None]
    inputs = {"input_ids": ids, "position_ids": torch.arange(10)[None], "piece_ids": torch.ones_like(ids)}
    labels = torch.where(torch.arange(10) % 3 == 0, -100, ids.roll(-1))
    one_by_one = model(**inputs, labels=labels, per_target=True)
    assert one_by_one.shape == (6,)
    whole = model(**inputs, labels=labels)
    torch.testing.assert_close(one_by_one.sum(), whole)
    grads = [torch.autograd.grad(loss, list(model.parameters())) for loss in (one_by_one.sum(), whole)]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)
