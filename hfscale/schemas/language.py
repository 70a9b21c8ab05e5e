"""Corpora, tokenizers and language models for pretraining."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hfscale.schemas.checks import require, require_measured
from hfscale.schemas.data import SourceSettings
from hfscale.schemas.model import ModelSettings
from hfscale.schemas.train import TrainSettings


@dataclass(frozen=True, kw_only=True)
class CorpusSettings(SourceSettings):
    """Where the text is, and how it is cut into sequences."""

    text: str = "text"
    """Column with the text (csv, tsv, json, jsonl, parquet, Hub)."""
    documents: Literal["file", "line", "blank_line"] | None = None
    """What is one document of a plain text file: all of it (the default), a line, or what blank lines separate."""
    validation_fraction: float | None = None
    """Share of `train` held out when `validation` is not given; by default a tenth, but about a megabyte at
    most; 0 for none. Whole documents are held out; of fewer than 20 documents the end of each."""
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
        least = 258 if self.kind == "bpe" else 64  # the 256 bytes, the end and the padding
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
        for name in ("revision", "trust_remote_code"):
            require(
                self.name is not None or not getattr(self, name),
                f"--model.{name} has no effect without --model.name; leave it out",
            )


@dataclass(frozen=True, kw_only=True)
class MaskedModelSettings(LanguageModelSettings):
    """A masked language model to continue from, or the shape of a new one."""

    type: Literal["bert", "roberta", "modernbert", "electra"] | None = None
    """Architecture of a new model; bert by default."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.name is None or self.type is None, "--model.type has no effect when --model.name is given")


@dataclass(frozen=True, kw_only=True)
class CausalModelSettings(LanguageModelSettings):
    """A causal language model to continue from, or the shape of a new one."""

    type: Literal["gpt2", "llama", "qwen3"] | None = None
    """Architecture of a new model; gpt2 by default."""
    num_kv_heads: int | None = None
    """Key and value heads of a new llama or qwen3; as many as attention heads by default."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.name is None or self.type is None, "--model.type has no effect when --model.name is given")
        require(
            self.num_kv_heads is None or self.type in ("llama", "qwen3"),
            "--model.num_kv_heads has no effect without --model.type llama or qwen3; leave it out",
        )
        kv_heads = self.num_kv_heads
        require(kv_heads is None or kv_heads >= 1, f"--model.num_kv_heads must be at least 1, got {kv_heads}")


@dataclass(frozen=True, kw_only=True)
class MaskSettings:
    """Which tokens are to be guessed."""

    fraction: float = 0.15
    """Share of the tokens; of these 80% are masked, 10% replaced at random, 10% left as they are."""
    whole_words: bool = False
    """Choose all tokens of a word together."""

    def __post_init__(self) -> None:
        require(0 < self.fraction < 1, f"--mask.fraction must be in (0, 1), got {self.fraction}")


def check_tokenizer(model: LanguageModelSettings, tokenizer: TokenizerSettings) -> None:
    """Refuse settings of a tokenizer to train beside a model that brings its own; for a recipe's `__post_init__`."""
    for name in ("kind", "vocab_size", "lowercase"):
        require(
            model.name is None or getattr(tokenizer, name) is None,
            f"--tokenizer.{name} has no effect when --model.name is given: the model brings its own; leave it out",
        )


def check_metric(train: TrainSettings) -> None:
    """Refuse a metric that no language model is measured by."""
    require_measured(train.best_metric, ("bits_per_byte", "perplexity", "loss"))


@dataclass(frozen=True, kw_only=True)
class SampleSettings:
    """Text that the model writes at each evaluation."""

    prompts: list[str] = field(default_factory=lambda: [""])
    """Beginnings to go on from; an empty one starts a document."""
    max_new_tokens: int = 48
    """Tokens to write for each; 0 for no samples."""
    temperature: float = 0.8
    """Below 1 the likely words become likelier; 0 always takes the likeliest."""

    def __post_init__(self) -> None:
        require(self.max_new_tokens >= 0, "--samples.max_new_tokens must not be negative")
        require(
            self.max_new_tokens > 0 or (self.prompts == [""] and self.temperature == 0.8),
            "--samples.prompts and --samples.temperature have no effect when --samples.max_new_tokens is 0",
        )
        require(self.temperature >= 0, "--samples.temperature must not be negative")


def check_samples(data: CorpusSettings, samples: SampleSettings) -> None:
    """Refuse settings of samples where there is no evaluation that would write them."""
    require(
        data.validation is not None or data.validation_fraction != 0 or samples == SampleSettings(),
        "--samples has no effect when --data.validation_fraction is 0, since evaluations write them; leave it out",
    )
