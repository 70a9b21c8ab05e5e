"""Pairs of texts to learn from: what is read, and what is to be written of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hfscale.schemas.checks import require, require_measured
from hfscale.schemas.data import SourceSettings
from hfscale.schemas.language import LanguageModelSettings
from hfscale.schemas.train import TrainSettings

Seq2SeqTask = Literal["translation", "summarization"]
SEQ2SEQ_METRICS: dict[Seq2SeqTask, tuple[str, ...]] = {
    "translation": ("bleu", "chrf"),
    "summarization": ("rouge1", "rouge2", "rougeL"),
}
"""What written text is measured by, the main one first."""


@dataclass(frozen=True, kw_only=True)
class TextPairSettings(SourceSettings):
    """Where the pairs of texts are.

    Two text files with the same lines are one source: `train.{en,de}.gz` has the columns `en` and `de`.
    """

    test: str | None = None
    """Source to report the final model on; without it the validation rows are."""
    source: str | None = None
    """Column with the text to read; by default the first name in a source's braces, else `source`. Of a Hub data set
    with a column `translation` the language."""
    target: str | None = None
    """Column with the text to write; by default the second name in a source's braces, else `target`."""
    prefix: str = ""
    """What is put before each text to read, as T5 wants it (`translate English to German: `)."""
    max_length: int = 128
    """Tokens of a text to read; longer ones are cut, and counted."""
    max_target_length: int | None = None
    """Tokens of a text to write, `max_length` by default; training leaves out longer ones, and counts them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.max_length >= 4, "--data.max_length must be at least 4 tokens")
        require(self.target_length >= 4, "--data.max_target_length must be at least 4 tokens")
        require(
            self.source is None or self.source != self.target, "--data.source and --data.target name the same column"
        )

    @property
    def target_length(self) -> int:
        """Tokens of a text to write."""
        return self.max_length if self.max_target_length is None else self.max_target_length


@dataclass(frozen=True, kw_only=True)
class Seq2SeqModelSettings(LanguageModelSettings):
    """An encoder-decoder to go on from, or the shape of a new one."""

    type: Literal["marian", "t5", "bart"] | None = None
    """Architecture of a new model; marian by default."""
    num_layers: int | None = None
    """Layers of a new model's encoder, and as many of its decoder; 3 by default."""
    dropout: float | None = None
    """Dropout of a new model, in its layers and its attention; 0.1 by default."""
    attention: Literal["sdpa", "eager"] = "sdpa"
    """Attention implementation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.name is None or self.type is None, "--model.type has no effect when --model.name is given")


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """How held-out texts are written."""

    num_beams: int = 4
    """Beams of the final evaluation, which is made greedily, too; 1 for that alone. The saved model writes with as
    many unless it is told otherwise."""
    length_penalty: float = 1.0
    """Above 1 beams prefer longer texts, below 1 shorter ones."""
    eval_examples: int = 256
    """Held-out texts that are written, greedily, at each evaluation during training; 0 for none, so that the loss
    decides which model is kept."""

    def __post_init__(self) -> None:
        require(self.num_beams >= 1, f"--generation.num_beams must be at least 1, got {self.num_beams}")
        require(self.eval_examples >= 0, "--generation.eval_examples must not be negative")
        require(
            self.num_beams > 1 or self.length_penalty == 1.0,
            "--generation.length_penalty has no effect when --generation.num_beams is 1; leave it out",
        )


def check_seq2seq(
    task: Seq2SeqTask,
    data: TextPairSettings,
    generation: GenerationSettings,
    train: TrainSettings,
    label_smoothing: float,
) -> None:
    """Refuse what a recipe that learns to write from what it reads can't do; for its `__post_init__`."""
    require(0 <= label_smoothing < 1, f"--label_smoothing must be in [0, 1), got {label_smoothing}")
    metric = train.best_metric
    require_measured(metric, (*SEQ2SEQ_METRICS[task], "loss", "perplexity"))
    require(
        generation.eval_examples > 0 or metric not in SEQ2SEQ_METRICS[task],
        f"--train.best_metric {metric} is not measured when --generation.eval_examples is 0",
    )
    validated = data.validation is not None or data.validation_fraction != 0
    require(
        validated or generation.eval_examples == GenerationSettings().eval_examples,
        "--generation.eval_examples has no effect when --data.validation_fraction is 0; leave it out",
    )
    held_out = data.validation is not None or data.validation_fraction != 0 or data.test is not None
    require(
        held_out or generation == GenerationSettings(),
        "--generation has no effect when --data.validation_fraction is 0 and there is no --data.test; leave it out",
    )
