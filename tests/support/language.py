"""Language models of two layers and hidden 32, for tests; a corpus and tokenizers that go with them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tests.support.tiny import WORDS

VOCAB_SIZE = 61
_COMMON = {
    "vocab_size": VOCAB_SIZE, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 48, "max_position_embeddings": 64,
    "tie_word_embeddings": True, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_OWN: dict[str, dict[str, Any]] = {
    "bert": _NO_DROPOUT,
    "roberta": {**_NO_DROPOUT, "max_position_embeddings": 65},  # positions start behind the padding's number
    "electra": {**_NO_DROPOUT, "embedding_size": 16},
    "modernbert": {"num_hidden_layers": 4, "cls_token_id": None, "sep_token_id": None},  # three layers of four slide
    "convbert": _NO_DROPOUT,
    "deberta-v2": _NO_DROPOUT,
    "gpt2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 1},
    "gemma3_text": {"layer_types": ["sliding_attention", "full_attention"]},
    "mamba2": {"num_heads": 4, "n_groups": 1, "state_size": 8},
    "rwkv": {"attention_hidden_size": 32},
}
_MASKED = ("bert", "roberta", "electra", "modernbert", "convbert", "deberta-v2")


def language_model(kind: str, attention: str, *, window: int = 8, spread: float | None = 0.15, seed: int = 0) -> Any:
    """A tiny model with a language modelling head; `spread` is the deviation of its weights, large enough for what a
    token sees to matter, and None for the architecture's own. `window` is how far sliding layers look."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

    options: dict[str, Any] = {**_COMMON, **_OWN.get(kind, {})}
    if kind == "modernbert":
        options["local_attention"] = window
    elif kind in ("mistral", "qwen2", "gemma3_text"):
        options["sliding_window"] = window
    torch.manual_seed(seed)
    auto = AutoModelForMaskedLM if kind in _MASKED else AutoModelForCausalLM
    model = auto.from_config(AutoConfig.for_model(kind, **options), attn_implementation=attention, dtype=torch.float32)
    if spread is not None:
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim > 1:
                    weight.normal_(std=spread)
    return model


def end_tokenizer() -> Any:
    """For causal models: a token per word of `WORDS`, `<unk>`, `<end>` and `<pad>`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate(["<pad>", "<unk>", "<end>", ".", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", eos_token="<end>", model_max_length=64
    )


def sentences(number: int, seed: int = 0) -> list[str]:
    """Lines of 2 to 30 words of `WORDS`, each word likely after the one before it."""
    draw = random.Random(seed)
    lines = []
    for _ in range(number):
        at = draw.randrange(len(WORDS))
        line = []
        for _ in range(draw.randint(2, 30)):
            line.append(WORDS[at])
            at = (at + draw.choice((1, 1, 1, 3))) % len(WORDS)
        lines.append(" ".join(line) + ".")
    return lines


def write_lines(path: Path, lines: list[str]) -> Path:
    """A plain text file."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path
