"""Corpora, tokenizers and language models for pretraining."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hfscale.schemas.checks import require
from hfscale.schemas.data import SourceSettings
from hfscale.schemas.model import ModelSettings


@dataclass(frozen=True, kw_only=True)
class CorpusSettings(SourceSettings):
    """Where the text is, and how it is cut into sequences."""

    text: str = "text"
    """Column with the text (csv, tsv, json, jsonl, parquet, Hub)."""
    documents: Literal["file", "line", "blank_line"] | None = None
    """What is one document of a plain text file: all of it (the default), a line, or what blank lines separate."""
    max_documents: int | None = None
    """Read only the first so many documents; of a Hub data set only these are downloaded."""
    max_length: int = 512
    """Tokens per sequence. Longer documents are cut into several pieces, shorter ones share a sequence."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.max_length >= 8, "--data.max_length must be at least 8 tokens")
        require(
            self.max_documents is None or self.max_documents >= 2,
            "--data.max_documents must be at least 2: one to train on, one to hold out",
        )


@dataclass(frozen=True, kw_only=True)
class TokenizerSettings:
    """A tokenizer that exists, or one trained on the training text."""

    name: str | None = None
    """Hub id or folder of an existing tokenizer; without it one is trained."""
    kind: Literal["wordpiece", "bpe"] | None = None
    """What to train: WordPiece as BERT's, or byte-level BPE as GPT-2's; the recipe's usual one by default."""
    vocab_size: int | None = None
    """Tokens of the trained vocabulary, special ones included; 8,000 by default."""
    lowercase: bool | None = None
    """Lower-case all text (WordPiece only); true by default."""

    def __post_init__(self) -> None:
        for name in ("kind", "vocab_size", "lowercase"):
            require(
                self.name is None or getattr(self, name) is None,
                f"--tokenizer.{name} has no effect when --tokenizer.name is given; leave one of them out",
            )
        require(
            self.kind != "bpe" or self.lowercase is None,
            "--tokenizer.lowercase has no effect with --tokenizer.kind bpe; leave it out",
        )
        least = 257 if self.kind == "bpe" else 64
        require(
            self.vocab_size is None or self.vocab_size >= least,
            f"--tokenizer.vocab_size must be at least {least}, got {self.vocab_size}",
        )


@dataclass(frozen=True, kw_only=True)
class LanguageModelSettings(ModelSettings):
    """A language model to continue from, or the shape of a new one."""

    name: str | None = None  # type: ignore[assignment]
    """Hub id or folder of a model to continue from; without it a new one is made."""
    hidden_size: int | None = None
    """Width of a new model; 256 by default."""
    num_layers: int | None = None
    """Layers of a new model; 4 by default."""
    num_heads: int | None = None
    """Attention heads of a new model; one per 64 of the width by default."""
    intermediate_size: int | None = None
    """Width of the feed-forward layers; four times the model's by default."""
    dropout: float | None = None
    """Dropout of a new model, in its layers and its attention; 0 by default: few passes over much text need none."""
    attention: Literal["sdpa", "eager"] = "sdpa"
    """Attention implementation; both keep documents that share a sequence apart."""

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_layers", "num_heads", "intermediate_size"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"--model.{name} must be at least 1, got {value}")
        require(0 <= (self.dropout or 0) < 1, f"--model.dropout must be in [0, 1), got {self.dropout}")
        shape = ("hidden_size", "num_layers", "num_heads", "intermediate_size", "dropout")
        for name in shape:
            require(
                self.name is None or getattr(self, name) is None,
                f"--model.{name} has no effect when --model.name is given; leave one of them out",
            )
