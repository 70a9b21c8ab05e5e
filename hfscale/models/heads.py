"""What stands on top of an encoder, by task: transformers' model classes."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from hfscale.errors import ModelError
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


def is_seq2seq(folder: Path) -> bool:
    """Whether a model folder holds an encoder-decoder that writes."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        name = str(next(iter(config.get("architectures") or []), ""))
    except (OSError, ValueError, AttributeError):
        return False
    return bool(config.get("is_encoder_decoder")) and name.endswith(("ForConditionalGeneration", "MTModel"))


def refuse_other_kinds(folder: Path) -> None:
    """Refuse a saved model of images, or one of language without a classifier, and say what it can be tried with.

    Raises:
        ModelError: for such a model; what can't be read is left to transformers' own complaint.
    """
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        architecture = str(next(iter(content.get("architectures") or []), ""))
    except (OSError, ValueError, AttributeError):
        return
    if content.get("model_type") == "hfscale_cnn" or architecture.endswith("ForImageClassification"):
        pipe = f"pipeline({_quoted('image-classification')}, {_quoted(folder)}, trust_remote_code=True)"
        code = f"from transformers import pipeline; print({pipe}({_quoted('image.png')}))"
        raise ModelError(f"{folder} holds an image model, which reads no text; try it: python -c {shlex.quote(code)}")
    tasks = {"ForCausalLM": "text-generation", "LMHeadModel": "text-generation", "ForMaskedLM": "fill-mask"}
    task = next((task for ending, task in tasks.items() if architecture.endswith(ending)), None)
    if task:
        pipe = f"pipeline({_quoted(task)}, {_quoted(folder)})"
        raise ModelError(
            f"{folder} holds a language model, which has no labels; try it with transformers' {pipe}, or fine-tune it "
            f"with --model.name {shlex.quote(str(folder))}"
        )


def _quoted(value: object) -> str:
    return json.dumps(str(value), ensure_ascii=False)


def heads_of(model: Any) -> list[str]:
    """Names of what stands beside a model's body, its encoder or decoder or both, and has weights."""
    children = [(name, module) for name, module in model.named_children() if any(True for _ in module.parameters())]
    if hasattr(model, model.base_model_prefix):
        return [name for name, _ in children if name != model.base_model_prefix]
    return [name for name, module in children if module is model.get_output_embeddings()]  # T5's body has no name


def auto_class(task: Task) -> Any:
    """transformers' class that finds the model class with the task's head for any architecture."""
    import transformers

    return getattr(transformers, f"AutoModelFor{head_of(task)}")


def set_dropout(config: Any, dropout: float) -> bool:
    """Write the probability into every dropout setting that a model's config has; returns whether there was any."""
    endings = ("dropout", "dropout_prob", "pdrop")
    names = [
        name
        for name, value in vars(config).items()
        if name.endswith(endings) and isinstance(value, (int, float)) and not isinstance(value, bool)
    ]
    for name in names:
        setattr(config, name, dropout)
    return bool(names)


def set_outputs(config: Any, task: Task, label_names: list[str]) -> None:
    """Write into a model's config what its head is to put out."""
    config.problem_type = None if task in _HEADS else task  # transformers knows those of whole texts alone
    config.id2label = dict(enumerate(label_names))
    config.label2id = {name: number for number, name in enumerate(label_names)}
