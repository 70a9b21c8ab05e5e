"""The settings that every recipe shares: frozen dataclasses that check themselves. No torch in here.

The string under a field is its help text, and the only place where it is written. Units stand in the name or in the
first words. `__post_init__` raises `ValueError` naming the flag and the way out.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Literal

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
"""What a sequence classifier predicts, in transformers' own words (`PretrainedConfig.problem_type`)."""

Tracker = Literal["tensorboard", "trackio", "wandb"]


METRICS: dict[ProblemType, tuple[str, ...]] = {
    "single_label_classification": ("accuracy", "f1", "matthews_correlation", "loss"),
    "multi_label_classification": ("f1_micro", "f1_macro", "subset_accuracy", "loss"),
    "regression": ("pearson", "spearman", "mse", "loss"),
}
"""What is measured on held-out examples, the main metric first."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Which model to start from."""

    name: str
    """Hub id, local folder, or `builtin:minilm` (the small BERT of the `quickstart` extra)."""
    revision: str | None = None
    """Branch, tag or commit of a Hub model."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model; only for authors you trust."""


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Where the examples are and what their columns mean."""

    train: str
    """Hub id, file, folder, glob or `builtin:NAME`; `NAME#split` picks a split of a Hub or built-in data set."""
    validation: str | None = None
    """Source to choose the best model on; without it `validation_fraction` of `train` is held out."""
    test: str | None = None
    """Source to report the final model on; without it the validation rows are (a built-in brings its own)."""
    subset: str | None = None
    """Configuration of a Hub data set (`cola` of `nyu-mll/glue`)."""
    text: str | list[str] = "text"
    """Column with the text, or a list of two columns for sentence pairs."""
    label: str | list[str] = "label"
    """Column with the label; a list of 0/1 columns for several labels at once."""
    label_separator: str | None = None
    """Separates several labels inside one cell (multi-label classification)."""
    columns: list[str] | None = None
    """Column names for csv and tsv files without a header line."""
    delimiter: str | None = None
    """Field separator of csv files; by default a comma, and a tab for .tsv."""
    quoting: bool = True
    """Whether csv and tsv fields may be quoted; false takes every `"` as a plain character."""
    encoding: str = "utf-8"
    """Text encoding of the files."""
    bad_rows: Literal["refuse", "skip"] = "refuse"
    """What to do with rows without text or label: stop and name them, or leave them out and name them."""
    max_length: int | None = None
    """Tokens per example, longer ones are cut (and counted); by default the model's own limit."""
    validation_fraction: float | None = None
    """Share of `train` held out when `validation` is not given; 0.1 by default, 0 for none."""
    split_seed: int = 0
    """Seed of that split; apart from `train.seed`, so that runs with other seeds share their validation rows."""

    def __post_init__(self) -> None:
        texts = [self.text] if isinstance(self.text, str) else self.text
        _require(1 <= len(texts) <= 2, "--data.text takes one column or a list of two")
        _require(self.max_length is None or self.max_length >= 4, "--data.max_length must be at least 4 tokens")
        _require(0 <= (self.validation_fraction or 0) < 1, "--data.validation_fraction must be in [0, 1)")
        for name in ("validation_fraction", "split_seed"):
            _require(
                self.validation is None or not getattr(self, name),
                f"--data.{name} has no effect when --data.validation is given; leave one of them out",
            )
        _require(
            self.label_separator is None or isinstance(self.label, str),
            "--data.label_separator has no effect when --data.label lists several columns; leave one of them out",
        )
        _require(self.delimiter is None or len(self.delimiter) == 1, "--data.delimiter must be a single character")


@dataclass(frozen=True, kw_only=True)
class OptimSettings:
    """The optimizer and the learning rate as a function of the step."""

    name: Literal["adamw", "sgd"] = "adamw"
    """Optimizer."""
    lr: float = 5e-5
    """Peak learning rate."""
    weight_decay: float = 0.01
    """Decay of weight matrices; biases and norms are never decayed."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """Shape after the warm-up; linear and cosine end at zero."""
    warmup_steps: float = 0.06
    """Optimizer steps of linear warm-up; below 1, a fraction of the run."""
    max_grad_norm: float | None = 1.0
    """Largest norm of the whole gradient, longer ones are scaled down; null for no clipping."""
    betas: tuple[float, float] | None = None
    """AdamW's two decay rates; (0.9, 0.999) by default."""
    eps: float | None = None
    """AdamW's denominator term; 1e-8 by default."""
    momentum: float | None = None
    """SGD's momentum; 0.9 by default."""
    nesterov: bool = False
    """Nesterov's form of SGD's momentum."""

    def __post_init__(self) -> None:
        _require(0 < self.lr < math.inf, f"--optim.lr must be greater than 0, got {self.lr}")
        _require(
            0 <= self.weight_decay < math.inf, f"--optim.weight_decay must not be negative, got {self.weight_decay}"
        )
        _require(all(0 <= beta < 1 for beta in self.betas or ()), f"--optim.betas must be in [0, 1), got {self.betas}")
        _require(self.eps is None or 0 < self.eps < math.inf, f"--optim.eps must be greater than 0, got {self.eps}")
        _require(0 <= (self.momentum or 0) < 1, f"--optim.momentum must be in [0, 1), got {self.momentum}")
        _require(
            self.warmup_steps >= 0 and (self.warmup_steps < 1 or float(self.warmup_steps).is_integer()),
            f"--optim.warmup_steps must be a whole number of steps or a fraction below 1, got {self.warmup_steps}",
        )
        _require(
            self.max_grad_norm is None or self.max_grad_norm > 0,
            "--optim.max_grad_norm must be greater than 0; null turns clipping off",
        )
        foreign = {
            "adamw": {"momentum": self.momentum is not None, "nesterov": self.nesterov},
            "sgd": {"betas": self.betas is not None, "eps": self.eps is not None},
        }[self.name]
        for name, given in foreign.items():
            _require(not given, f"--optim.{name} has no effect with --optim.name {self.name}; leave it out")
        _require(not (self.nesterov and self.momentum == 0), "--optim.nesterov needs --optim.momentum greater than 0")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The loop: how long, how large, how often, and where to."""

    output_dir: str
    """Run folder; must not hold another run."""
    seed: int = 0
    """Seed of the new weights, the order of the examples and dropout."""
    epochs: float | None = None
    """Passes over the training examples; 3 when neither this nor `max_steps` is given."""
    max_steps: int | None = None
    """Optimizer steps, instead of `epochs`."""
    global_batch_size: int = 32
    """Examples per optimizer step, over all processes and accumulation steps."""
    micro_batch_size: int | None = None
    """Examples per forward pass on one process; by default the process's whole share of the global batch."""
    eval_batch_size: int = 64
    """Examples per forward pass of an evaluation on one process."""
    eval_steps: int | None = None
    """Optimizer steps between evaluations; by default once per epoch."""
    log_steps: int = 10
    """Optimizer steps between logged lines."""
    best_metric: str | None = None
    """Validation metric that decides which model is kept; by default the task's first one."""
    early_stop: int | None = None
    """Evaluations without a better model after which training stops."""
    precision: Literal["fp32", "bf16"] | None = None
    """Arithmetic of the forward pass; by default what `accelerate launch` was told, else fp32."""
    trackers: list[Tracker] | None = None
    """Experiment trackers to report to, beside metrics.jsonl."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "output_dir", os.path.expanduser(self.output_dir))
        _require(
            self.epochs is None or self.max_steps is None,
            "--train.epochs and --train.max_steps were both given; choose one",
        )
        _require(0 <= self.seed < 2**31, f"--train.seed must be in [0, 2**31), got {self.seed}")
        _require(self.epochs is None or 0 < self.epochs < math.inf, "--train.epochs must be greater than 0")
        for name in ("max_steps", "micro_batch_size", "eval_steps", "early_stop"):
            value = getattr(self, name)
            _require(value is None or value >= 1, f"--train.{name} must be at least 1, got {value}")
        for name in ("global_batch_size", "eval_batch_size", "log_steps"):
            _require(getattr(self, name) >= 1, f"--train.{name} must be at least 1, got {getattr(self, name)}")


def check_task(problem_type: ProblemType, data: DataSettings, train: TrainSettings) -> None:
    """Refuse settings of the blocks that don't go with the task; for a recipe's `__post_init__`.

    Raises:
        ValueError: naming the setting and the way out.
    """
    measured = METRICS[problem_type]
    _require(
        train.best_metric is None or train.best_metric in measured,
        f"--train.best_metric {train.best_metric} is not measured for {problem_type}; there are {', '.join(measured)}",
    )
    if problem_type != "multi_label_classification":
        several = "--task multi_label_classification"
        _require(isinstance(data.label, str), f"--data.label with several columns needs {several}")
        _require(data.label_separator is None, f"--data.label_separator has no effect without {several}; leave it out")
