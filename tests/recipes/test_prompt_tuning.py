"""A trained prompt: it brings a model to do what a system message would bring it to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from hfscale.cli import main
from tests.support.chat import CHATML, COLOURS, byte_tokenizer, write_json
from tests.support.commands import ROOT, assert_one_line, records, result
from tests.support.warm import warm_run

pytest.importorskip("peft", reason="needs the extra `peft`")
PROMPT = ("--lora.method", "prompt", "--lora.tokens", 6)


def finetune(model: Path, rows: Path, run: Path, *flags: Any) -> Any:
    words = [
        ROOT / "recipes" / "finetune_gpt.py",
        "--model.name",
        model,
        "--data.train",
        rows,
        "--data.validation",
        rows,
    ]
    words += ["--data.max_length", 120, "--train.global_batch_size", 2, "--train.output_dir", run]
    return warm_run(*words, *flags)


def write_tiny_llama(folder: Path) -> Path:
    """Of relative positions: what it knows holds behind a prompt, too."""
    tokenizer = byte_tokenizer(CHATML)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    ids: dict[str, Any] = {"vocab_size": len(tokenizer), "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 0}
    LlamaForCausalLM(LlamaConfig(**shape, **ids, max_position_embeddings=128)).save_pretrained(folder)
    return folder


def told(how: str | None) -> list[dict[str, Any]]:
    """Questions, and answers in capitals where the system message says LOUD."""
    system = [{"role": "system", "content": how}] if how else []
    return [
        {
            "messages": [
                *system,
                {"role": "user", "content": f"Colour? {name}"},
                {"role": "assistant", "content": colour.upper() if how == "LOUD" else colour},
            ]
        }
        for name, colour in COLOURS.items()
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("prompt")
    asked = write_json(folder / "asked.json", told("LOUD") + told("calm"))
    rows = write_json(folder / "rows.json", told(None))
    steps = ["--train.max_steps", 250, "--optim.lr", "5e-3", "--answers.number", 0]
    base = finetune(write_tiny_llama(folder / "llama"), asked, folder / "base", *steps)
    assert base.returncode == 0, base.stdout + base.stderr
    steps = ["--train.max_steps", 120, "--optim.lr", "3e-2", "--answers.number", 6, "--answers.max_new_tokens", 8]
    finished = finetune(folder / "base" / "model", rows, folder / "run", *PROMPT, *steps)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder, finished


def test_it_answers_in_the_wanted_way(trained: tuple[Path, Any]) -> None:
    folder, finished = trained
    run = folder / "run"
    assert result(run)["metrics"]["loss"] < 0.1 < records(run)[0]["loss"] / 2
    assert result(run)["metrics"]["exact_match"] == 1
    assert result(run)["num_trained_parameters"] == 6 * 64
    assert "adapter    prompt, 384 of " in finished.stdout
    assert "example    '<6 prompt tokens><|start|>user\\nColour? " in finished.stdout
    assert f"try it     with the lines under Use in {run}/model/README.md" in finished.stdout


@pytest.mark.parametrize(
    "command", [["export", "--merge"], ["export", "--bits", "4"], ["compress"], ["prune", "--sparsity", "0.5"]]
)
def test_it_can_not_be_merged(trained: tuple[Path, Any], capsys: Any, command: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command[0], str(trained[0] / "run"), *command[1:]])
    assert ended.value.code == 2
    assert "holds a trained prompt, which can't be merged into weights; load it with PEFT" in capsys.readouterr().err


def test_long_conversations_and_idle_settings_are_refused(trained: tuple[Path, Any]) -> None:
    """Without the soft tokens the longest would fit."""
    folder = trained[0]
    given = (folder / "base" / "model", folder / "rows.json", folder / "short", *PROMPT)
    short = finetune(*given, "--data.max_length", 44, "--train.max_steps", 1, "--answers.number", 0)
    assert "2 of 6 conversations are longer than --data.max_length 44, the 6 tokens of the prompt" in short.stderr
    assert result(folder / "short")["complete"]
    assert_one_line(finetune(*given, "--data.max_length", 8, "--lora.tokens", 8), "--lora.tokens 8 leaves no room")


@pytest.mark.parametrize(
    "words",
    [
        ["finetune_bert.py", "--data.train", "x"],
        [
            "finetune_seq2seq.py",
            "--data.train",
            "x",
            "--data.source",
            "a",
            "--data.target",
            "b",
            "--task",
            "translation",
        ],
        ["align_gpt.py", "--model.name", "x", "--data.train", "x"],
    ],
)
def test_other_recipes_refuse_it(words: list[str]) -> None:
    refused = warm_run(ROOT / "recipes" / words[0], *words[1:], *PROMPT)
    assert_one_line(refused, "--lora.method prompt is for finetune_gpt.py alone; take lora, rslora, dora or ia3")
