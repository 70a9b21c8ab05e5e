"""What a model predicts and what is measured."""

from __future__ import annotations

import dataclasses
from typing import Literal

from hfscale.schemas.checks import require, require_measured
from hfscale.schemas.data import DataSettings
from hfscale.schemas.train import TrainSettings

Task = Literal[
    "single_label_classification",
    "multi_label_classification",
    "regression",
    "token_classification",
    "question_answering",
]
"""What is predicted: for a whole text, in transformers' own words (`PretrainedConfig.problem_type`), a class, several,
or a number; for each word its tag; for a question the span of its context that answers it."""

METRICS: dict[Task, tuple[str, ...]] = {
    "single_label_classification": ("accuracy", "f1", "matthews_correlation", "loss"),
    "multi_label_classification": ("f1_micro", "f1_macro", "subset_accuracy", "loss"),
    "regression": ("pearson", "spearman", "mse", "loss"),
    "token_classification": ("f1", "precision", "recall", "accuracy", "loss"),
    "question_answering": ("f1", "exact_match", "loss"),
}
"""What is measured on held-out examples, the main metric first."""

_COLUMNS: dict[Task, tuple[str | list[str], str]] = {
    "token_classification": ("tokens", "tags"),
    "question_answering": (["question", "context"], "answers"),
}
"""The columns of text and label where the settings name none; `text` and `label` for all other tasks."""


def with_columns(data: DataSettings, task: Task) -> DataSettings:
    """The settings with the task's usual columns in place of those that are not named."""
    text, label = _COLUMNS.get(task, ("text", "label"))
    return dataclasses.replace(
        data, text=text if data.text is None else data.text, label=label if data.label is None else data.label
    )


def check_best_metric(task: Task, train: TrainSettings) -> None:
    """Refuse a metric that the task doesn't measure, by `ValueError`."""
    require_measured(train.best_metric, METRICS[task], f"for {task}")


def check_task(task: Task, data: DataSettings, train: TrainSettings, baselines: bool | None = None) -> None:
    """Refuse settings of the blocks that don't go with the task; for a recipe's `__post_init__`.

    Raises:
        ValueError: naming the setting and the way out.
    """
    check_best_metric(task, train)
    if task != "multi_label_classification":
        several = "--task multi_label_classification"
        require(not isinstance(data.label, list), f"--data.label with several columns needs {several}")
        require(data.label_separator is None, f"--data.label_separator has no effect without {several}; leave it out")
    if task == "token_classification":
        require(data.text is None or isinstance(data.text, str), "--data.text takes one column, with a list of words")
    if task == "question_answering":
        texts = with_columns(data, task).text
        pair = "--data.text takes two columns for question_answering, as in '[question, context]'"
        require(isinstance(texts, list) and len(texts) == 2, pair)
        require(not baselines, "--baselines has no effect for question_answering, which has none; leave it out")
    else:
        require(data.stride is None, "--data.stride has no effect without --task question_answering; leave it out")
