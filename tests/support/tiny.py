"""A BERT small enough for a test, as a folder, and data that it can learn."""

from __future__ import annotations

import csv
import random
from pathlib import Path

FILLERS = ["the", "a", "film", "was", "plot", "cast", "scene", "ending", "really", "not", "very", "quite"]
PRAISE = ["good", "fine", "bright", "great"]
BLAME = ["bad", "dull", "slow", "poor"]
WORDS = [*FILLERS, *PRAISE, *BLAME]


def write_tiny_bert(folder: Path, *, dropout: float = 0.1, seed: int = 0, intermediate_size: int = 64) -> Path:
    """A BertModel of 2 layers, hidden 32, with a WordPiece tokenizer over `WORDS`; random weights."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: number for number, word in enumerate(special + WORDS)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {f"{name.strip('[]').lower()}_token": name for name in special}
    PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **names).save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=intermediate_size,
        max_position_embeddings=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def reviews(number: int, seed: int = 0) -> list[dict[str, str]]:
    """Rows of `text` and `label`, 3 to 20 words; texts with more praise than blame are `positive`."""
    draw = random.Random(seed)
    rows = []
    while len(rows) < number:
        words = draw.choices(WORDS, k=draw.randint(3, 20))
        praise = sum(word in PRAISE for word in words)
        blame = sum(word in BLAME for word in words)
        if praise != blame:
            rows.append({"text": " ".join(words), "label": "positive" if praise > blame else "negative"})
    return rows


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    """Write rows of equal keys with a header."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
