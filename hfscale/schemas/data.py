"""Where the examples are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hfscale.schemas.checks import require


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """Sources of rows, how their files are read, and what is held out."""

    train: str
    """Hub id, file, folder, glob or `builtin:NAME`; `NAME#split` picks a split of a Hub or built-in data set."""
    validation: str | None = None
    """Source to choose the best model on; without it `validation_fraction` of `train` is held out."""
    subset: str | None = None
    """Configuration of a Hub data set (`cola` of `nyu-mll/glue`)."""
    columns: list[str] | None = None
    """Column names for csv and tsv files without a header line, and for CoNLL files."""
    delimiter: str | None = None
    """Field separator of csv files; by default a comma, and a tab for .tsv; of CoNLL files tabs or blanks."""
    quoting: bool = True
    """Whether csv and tsv fields may be quoted; false takes every `"` as a plain character."""
    encoding: str = "utf-8"
    """Text encoding of the files."""
    bad_rows: Literal["refuse", "skip"] = "refuse"
    """What to do with rows without text or label: stop and name them, or leave them out and name them."""
    validation_fraction: float | None = None
    """Share of `train` held out when `validation` is not given; 0.1 by default, 0 for none."""
    split_seed: int = 0
    """Seed of that split; apart from `train.seed`, so that runs with other seeds share their validation rows."""

    def __post_init__(self) -> None:
        require(0 <= (self.validation_fraction or 0) < 1, "--data.validation_fraction must be in [0, 1)")
        for name in ("validation_fraction", "split_seed"):
            require(
                self.validation is None or not getattr(self, name),
                f"--data.{name} has no effect when --data.validation is given; leave one of them out",
            )
        require(self.delimiter is None or len(self.delimiter) == 1, "--data.delimiter must be a single character")


@dataclass(frozen=True, kw_only=True)
class DataSettings(SourceSettings):
    """Where the examples are and what their columns mean."""

    test: str | None = None
    """Source to report the final model on; without it the validation rows are (a built-in brings its own)."""
    text: str | list[str] | None = None
    """Column with the text (`text` by default), or a list of two columns for sentence pairs; for token_classification
    the column with the words (`tokens`), for question_answering the two of question and context."""
    label: str | list[str] | None = None
    """Column with the label (`label` by default), or a list of 0/1 columns for several labels at once; for
    token_classification the column with the tags (`tags`), for question_answering that of the `answers`."""
    label_separator: str | None = None
    """Separates several labels inside one cell (multi-label classification)."""
    max_length: int | None = None
    """Tokens per example; by default the model's own limit, and at most 384 for question_answering. Longer texts are
    cut (and counted), longer sentences split at a word, longer contexts read in windows."""
    stride: int | None = None
    """Tokens that neighbouring windows of a long context share (question_answering); 128 by default, at most a third
    of `max_length`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        texts = self.text if isinstance(self.text, list) else [self.text]
        require(1 <= len(texts) <= 2, "--data.text takes one column or a list of two")
        require(self.max_length is None or self.max_length >= 4, "--data.max_length must be at least 4 tokens")
        require(self.stride is None or self.stride >= 0, f"--data.stride must not be negative, got {self.stride}")
        require(
            self.label_separator is None or not isinstance(self.label, list),
            "--data.label_separator has no effect when --data.label lists several columns; leave one of them out",
        )
