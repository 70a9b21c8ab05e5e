"""Conversations to learn to answer from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hfscale.schemas.checks import require, require_measured
from hfscale.schemas.data import SourceSettings
from hfscale.schemas.language import LanguageModelSettings
from hfscale.schemas.lora import LoraSettings, num_soft_tokens
from hfscale.schemas.train import TrainSettings

ANSWER_METRICS = ("loss", "perplexity", "bits_per_byte", "exact_match", "stopped")
"""What a model that answers is measured by."""
PREFERENCE_METRICS = ("accuracy", "loss", "margin")
"""What a model that learns from preferences is measured by."""


@dataclass(frozen=True, kw_only=True)
class ConversationSettings(SourceSettings):
    """Where the conversations are, and how the model reads them.

    A row has `messages` (a list of `role` and `content`), `prompt` and `completion`, or `instruction`, `output` and
    perhaps `input`.
    """

    system: str | None = None
    """System message of all conversations that bring none."""
    template: Literal["plain", "alpaca"] | None = None
    """How a conversation is written where the model's tokenizer brings no chat template of its own: `User: ...
    Assistant: ...`, or under `### Instruction:` and `### Response:`."""
    max_length: int = 512
    """Tokens of a conversation. Longer ones are left out, and counted."""
    pack: bool = True
    """Let short conversations share a sequence, apart from each other; false pads each."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.max_length >= 8, "--data.max_length must be at least 8 tokens")


@dataclass(frozen=True, kw_only=True)
class PairSettings(ConversationSettings):
    """Where pairs of answers are, and how the model reads them.

    A row has `prompt`, `chosen` and `rejected`, texts or lists of messages; or `chosen` and `rejected`, whole
    conversations that differ in the last message.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.pack, "--data.pack has no effect: the two answers of a pair share a sequence; leave it out")


@dataclass(frozen=True, kw_only=True)
class PreferenceSettings:
    """Direct preference optimization (Rafailov et al. 2023)."""

    beta: float = 0.1
    """How dear it is to move away from the model that training began with; greater keeps it nearer."""

    def __post_init__(self) -> None:
        require(self.beta > 0, f"--preference.beta must be greater than 0, got {self.beta}")


@dataclass(frozen=True, kw_only=True)
class AnswerSettings:
    """Held-out conversations that the model answers at each evaluation, always with the likeliest words."""

    number: int = 4
    """How many; `exact_match` and `stopped` are shares of these, less those that leave no room. 0 for none."""
    max_new_tokens: int = 128
    """Tokens of an answer at most."""

    def __post_init__(self) -> None:
        require(self.number >= 0, f"--answers.number must not be negative, got {self.number}")
        require(self.max_new_tokens >= 1, f"--answers.max_new_tokens must be at least 1, got {self.max_new_tokens}")
        require(
            self.number > 0 or self.max_new_tokens == 128,
            "--answers.max_new_tokens has no effect when --answers.number is 0",
        )


def check_chat(
    model: LanguageModelSettings,
    data: ConversationSettings,
    answers: AnswerSettings,
    train: TrainSettings,
    lora: LoraSettings | None = None,
) -> None:
    """Refuse what a recipe that teaches to answer can't do; for its `__post_init__`."""
    require(model.name is not None, "--model.name is missing: which language model shall learn to answer?")
    number = num_soft_tokens(lora)
    require(
        number < data.max_length,
        f"--lora.tokens {number} leaves no room for a text in --data.max_length {data.max_length}",
    )
    metric = train.best_metric
    require_measured(metric, ANSWER_METRICS)
    require(
        answers.number > 0 or metric not in ("exact_match", "stopped"),
        f"--train.best_metric {metric} is not measured when --answers.number is 0",
    )
    held_out = data.validation is not None or data.validation_fraction != 0
    require(
        held_out or answers == AnswerSettings(),
        "--answers has no effect when --data.validation_fraction is 0, since evaluations ask for them; leave it out",
    )


def check_preferences(model: LanguageModelSettings, lora: LoraSettings, train: TrainSettings) -> None:
    """As `check_chat`, of a recipe that learns from pairs of answers."""
    require(model.name is not None, "--model.name is missing: which language model shall learn what is preferred?")
    require_measured(train.best_metric, PREFERENCE_METRICS)
    require(
        lora.method != "pissa",
        "--lora.method pissa changes the weights that answers are compared with; take lora, rslora, dora or ia3",
    )
