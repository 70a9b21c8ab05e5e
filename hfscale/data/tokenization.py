"""Text -> token ids, once, cached."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from hfscale import console

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from hfscale.data.labels import Labels


def tokenize(table: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, labels: Labels) -> Dataset:
    """Add the columns `input_ids` (and `token_type_ids` where the model has them), `length` in tokens, and `labels`.

    Examples over `max_length` tokens, special ones counted, are cut at the end (of the longer text of a pair) and
    counted aloud. A fast tokenizer uses all cores by itself; a slow one gets a process per core.
    """

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        encoded = tokenizer(
            batch["text"],
            batch.get("text_pair"),
            truncation=True,
            max_length=max_length,
            return_attention_mask=False,
            return_overflowing_tokens=False,
        )
        lengths = [len(ids) for ids in encoded["input_ids"]]
        if tokenizer.is_fast:
            cut = [bool(encoding.overflowing) for encoding in encoded.encodings or []]
        else:
            whole = tokenizer(batch["text"], batch.get("text_pair"), verbose=False)["input_ids"]
            cut = [len(ids) > length for ids, length in zip(whole, lengths, strict=True)]
        return {**encoded, "length": lengths, "cut": cut}

    targets = labels.encode(table)
    slow_processes = None if tokenizer.is_fast or len(table) < 10_000 else os.cpu_count()
    encoded = table.map(
        encode,
        batched=True,
        num_proc=slow_processes,
        new_fingerprint=_fingerprint(table, tokenizer, max_length),
        desc="tokenizing",
    )
    num_cut = sum(encoded["cut"])
    if num_cut:
        console.say(f"data       {num_cut:,} of {len(table):,} examples were cut at {max_length} tokens")
    return encoded.remove_columns("cut").add_column("labels", targets)  # type: ignore[call-arg]


def _fingerprint(table: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> str:
    """What the token ids depend on. `datasets` would pickle the tokenizer, whose state changes with every call."""
    backend = json.dumps(tokenizer.get_vocab())
    if tokenizer.is_fast:
        fast: Any = tokenizer
        parts = json.loads(fast.backend_tokenizer.to_str())
        backend = json.dumps({name: part for name, part in parts.items() if name not in ("truncation", "padding")})
    kind = (type(tokenizer).__name__, tokenizer.model_input_names, tokenizer.truncation_side, max_length)
    key = f"{table._fingerprint}\0{kind}\0{backend}"
    return hashlib.sha256(key.encode()).hexdigest()[:32]
