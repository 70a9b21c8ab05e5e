"""A GPT small enough for a test, which reads bytes, and questions that it can learn to answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CHATML = (
    "{% for m in messages %}{{ '<|start|>' + m.role + '\n' + m.content + '<|stop|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)
COLOURS = {"grass": "green", "snow": "white", "coal": "black", "blood": "red", "sky": "blue", "gold": "yellow"}


def byte_tokenizer(chat_template: str | None = None) -> Any:
    """A token per byte; `<|end|>` begins and ends a text, `<|start|>` and `<|stop|>` stand around a turn."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<|end|>", "<|pad|>", "<|start|>", "<|stop|>"]
    vocabulary = {token: number for number, token in enumerate(special + sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    names = {"eos_token": "<|end|>", "bos_token": "<|end|>", "pad_token": "<|pad|>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, extra_special_tokens=special[2:], **names)
    tokenizer.chat_template = chat_template
    return tokenizer


def tiny_gpt(tokenizer: Any, seed: int = 0) -> Any:
    """A GPT-2 of two layers, hidden 64, for 128 tokens; random weights."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    none = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    shape = {"vocab_size": len(tokenizer), "n_positions": 128, "n_embd": 64, "n_layer": 2, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(**shape, **none, **ids))


def write_tiny_gpt(folder: Path, chat_template: str | None = None) -> Path:
    """Both as a model folder."""
    tokenizer = byte_tokenizer(chat_template)
    tokenizer.save_pretrained(folder)
    tiny_gpt(tokenizer).save_pretrained(folder)
    return folder


def questions() -> list[dict[str, str]]:
    """Rows of `instruction`, `input` and `output`."""
    return [{"instruction": "Colour?", "input": name, "output": colour} for name, colour in COLOURS.items()]


def write_json(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps(rows))
    return path
