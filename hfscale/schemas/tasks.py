"""What a model predicts and what is measured."""

from __future__ import annotations

from typing import Literal

from hfscale.schemas.checks import require
from hfscale.schemas.data import DataSettings
from hfscale.schemas.train import TrainSettings

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
"""What a sequence classifier predicts, in transformers' own words (`PretrainedConfig.problem_type`)."""

METRICS: dict[ProblemType, tuple[str, ...]] = {
    "single_label_classification": ("accuracy", "f1", "matthews_correlation", "loss"),
    "multi_label_classification": ("f1_micro", "f1_macro", "subset_accuracy", "loss"),
    "regression": ("pearson", "spearman", "mse", "loss"),
}
"""What is measured on held-out examples, the main metric first."""


def check_task(problem_type: ProblemType, data: DataSettings, train: TrainSettings) -> None:
    """Refuse settings of the blocks that don't go with the task; for a recipe's `__post_init__`.

    Raises:
        ValueError: naming the setting and the way out.
    """
    measured = METRICS[problem_type]
    require(
        train.best_metric is None or train.best_metric in measured,
        f"--train.best_metric {train.best_metric} is not measured for {problem_type}; there are {', '.join(measured)}",
    )
    if problem_type != "multi_label_classification":
        several = "--task multi_label_classification"
        require(isinstance(data.label, str), f"--data.label with several columns needs {several}")
        require(data.label_separator is None, f"--data.label_separator has no effect without {several}; leave it out")
