"""Teaching a model to answer through an adapter beside weights in few bits."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from hfscale.cli import main
from hfscale.data import ChatFormat
from hfscale.schemas import ConversationSettings
from tests.support.chat import CHATML, questions, write_json, write_tiny_gpt
from tests.support.commands import ROOT, assert_one_line, result
from tests.support.warm import WarmRun

pytest.importorskip("peft", reason="needs the extra `peft`")
PROMPT = ["--lora.method", "prompt", "--lora.tokens", 4]
NEEDS_BITS = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs the extra `quant`")


def finetune(folder: Path, name: str, *flags: Any, **hooks: Any) -> Any:
    write_tiny_gpt(folder / "gpt", CHATML)
    rows = write_json(folder / "rows.json", questions() * 2)
    words = [ROOT / "recipes" / "finetune_gpt.py", "--model.name", folder / "gpt", "--data.train", rows]
    words += ["--data.validation", rows, "--data.max_length", 64, "--train.global_batch_size", 4, "--optim.lr", "1e-2"]
    words += ["--train.max_steps", 8, "--train.eval_steps", 4, "--train.save_steps", 2, "--answers.max_new_tokens", 8]
    words += ["--train.output_dir", folder / name, *flags]
    return WarmRun(tuple(words), folder / f"log{len(list(folder.iterdir()))}", hooks).wait()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's own call
@pytest.mark.filterwarnings("ignore:Position ids are not supported:UserWarning")  # PEFT's, where it has a prompt
@pytest.mark.parametrize(
    "flags",
    [
        ["--lora.method", "dora", "--lora.r", 4],
        pytest.param(["--lora.r", 4, "--quant.bits", 4], marks=NEEDS_BITS),
        PROMPT,
        pytest.param([*PROMPT, "--quant.bits", 4], marks=NEEDS_BITS),
    ],
    ids=["dora", "qlora", "prompt", "4-bit prompt"],
)
def test_killed_and_gone_on_with_and_loaded_as_the_card_says(tmp_path: Path, flags: list[Any]) -> None:
    whole = finetune(tmp_path, "whole", *flags)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert finetune(tmp_path, "killed", *flags, signal_in_training=("SIGKILL", 5)).returncode == -9
    gone_on = finetune(tmp_path, "killed", *flags)
    assert "resumed    from step-00000" in gone_on.stdout, gone_on.stderr
    run, other = tmp_path / "whole", tmp_path / "killed"
    weights, others = (load_file(each / "model" / "adapter_model.safetensors") for each in (run, other))
    assert weights.keys() == others.keys() and all(torch.equal(weights[key], others[key]) for key in weights)
    assert not any("lm_head" in key or "wte" in key for key in weights)
    assert result(run)["num_trained_parameters"] == sum(weight.numel() for weight in weights.values())

    card = (run / "model" / "README.md").read_text()
    assert str(tmp_path) not in card + (run / "model" / "config.json").read_text()
    load, answer = (part.split("```")[0] for part in card.split("```python\n")[1:])
    found: dict[str, Any] = {}
    for code in (load, answer):
        code = code.replace("PATH_OR_HUB_ID", str(run / "model")).replace("PATH_OF_BASE", str(tmp_path / "gpt"))
        exec(code, found)
    assert found["ends"][0] == found["tokenizer"].convert_tokens_to_ids("<|stop|>")
    assert held_out_loss(found, tmp_path) == pytest.approx(result(run)["metrics"]["loss"], rel=1e-4)


def held_out_loss(found: dict[str, Any], folder: Path) -> float:
    """Mean over the answers' tokens, a conversation at a time, of the model that the card's code has loaded."""
    tokenizer, model = found["tokenizer"], found["model"]
    chat, losses = ChatFormat(tokenizer, ConversationSettings(train="x")), []
    for row in json.loads((folder / "rows.json").read_text()):
        asked = {"role": "user", "content": f"{row['instruction']}\n\n{row['input']}"}
        ids, learned = chat.encode([asked, {"role": "assistant", "content": row["output"]}])
        with torch.no_grad():
            logits = model(input_ids=torch.tensor(ids)[None].long()).logits[0, -len(ids) : -1]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(ids)[1:].long(), reduction="none")
        losses.append(loss[torch.tensor(learned)[1:]])
    return float(torch.cat(losses).mean())


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's own call
def test_merged_it_is_a_model_to_ask(tmp_path: Path, capsys: Any) -> None:
    """Compared on held-out sequences, at most as many as wanted; its card asks as it was taught."""
    trained = finetune(tmp_path, "run", "--lora.r", 4, "--data.system", "Be short.", "--data.pack", "false")
    assert trained.returncode == 0, trained.stderr
    assert f"hfscale export {tmp_path}/run --merge && python -c" in trained.stdout
    capsys.readouterr()
    main(["export", str(tmp_path / "run"), "--merge", "--examples", "5", "--batch_size", "2"])
    assert "5 validation sequences of rows.json" in capsys.readouterr().out
    merged = tmp_path / "run" / "model-merged"
    assert '[{"role": "system", "content": "Be short."}, {"role"' in (merged / "README.md").read_text()
    ends = json.loads((merged / "generation_config.json").read_text())["eos_token_id"]
    assert ends[0] == AutoTokenizer.from_pretrained(merged).convert_tokens_to_ids("<|stop|>")
    refused = finetune(tmp_path, "again", "--model.name", tmp_path / "run")
    assert refused.returncode == 2 and "hfscale export --merge" in refused.stderr


def test_quantized_weights_need_an_adapter(tmp_path: Path) -> None:
    assert_one_line(finetune(tmp_path, "run", "--quant.bits", 4), "quantized weights can't be trained", "--lora.r 8")


def test_an_unknown_layer_is_refused(tmp_path: Path) -> None:
    given = finetune(tmp_path, "run", "--lora.targets", "[q_proj]")
    assert given.returncode == 2 and "there is no linear layer q_proj" in given.stderr, given.stderr
    assert given.stderr.splitlines()[-1].endswith("there are attn.c_attn, attn.c_proj, mlp.c_fc, mlp.c_proj")
