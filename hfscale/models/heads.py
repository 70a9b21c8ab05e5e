"""What stands on top of an encoder, by task: transformers' model classes."""

from __future__ import annotations

from typing import Any

from hfscale.schemas import Task

_HEADS: dict[Task, str] = {"token_classification": "TokenClassification", "question_answering": "QuestionAnswering"}


def head_of(task: Task) -> str:
    """The last part of the names of the classes that have the task's head."""
    return _HEADS.get(task, "SequenceClassification")


def task_of(class_name: str, config: Any) -> Task:
    """The task of a model by the name of its class (`config.architectures` of a saved one) and its config."""
    for task, head in _HEADS.items():
        if class_name.endswith(f"For{head}"):
            return task
    return config.problem_type or "single_label_classification"


def auto_class(task: Task) -> Any:
    """transformers' class that finds the model class with the task's head for any architecture."""
    import transformers

    return getattr(transformers, f"AutoModelFor{head_of(task)}")


def set_outputs(config: Any, task: Task, label_names: list[str]) -> None:
    """Write into a model's config what its head is to put out."""
    config.problem_type = None if task in _HEADS else task  # transformers knows those of whole texts alone
    config.id2label = dict(enumerate(label_names))
    config.label2id = {name: number for number, name in enumerate(label_names)}
