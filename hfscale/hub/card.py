"""The card of a fine-tuned text model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hfscale.data.sources import last_part
from hfscale.hub.metadata import base_on_hub, model_metadata
from hfscale.hub.sections import (
    Words,
    compose,
    data_named,
    limits,
    named,
    results,
    shown_names,
    training,
)
from hfscale.hub.usage import adapter_usage, pipeline_of, plain_usage, trust_note
from hfscale.models import origin_of
from hfscale.schemas import Task
from hfscale.schemas.tasks import with_columns

_ANSWERS: dict[Task, str] = {
    "single_label_classification": "gives {text} one of {number} labels",
    "multi_label_classification": "gives {text} any number of {number} labels",
    "regression": "gives {text} a number",
    "token_classification": "gives each word of {text} one of {number} tags",
    "question_answering": "answers a question by a part of the context that comes with it",
}


def model_card(config: Any, result: dict[str, Any], label_names: Sequence[str]) -> str:
    """Text of the `README.md` beside the weights of a classifier of texts or words, or a model that answers questions.

    Local files are named by their last part only: no path of the machine gets into what may be published.
    """
    train, words = last_part(config.data.train), Words()
    own_code = not hasattr(config.model, "name")
    made = _made(config.model)
    title = f"{made} on {train}"
    metadata = model_metadata(config, result, pipeline_of(config.task), title, ("custom_code",) if own_code else ())
    held_out = f"test examples of {last_part(config.data.test or config.data.train)}"
    if result["held_out"] == "validation":
        held_out = f"validation examples of {last_part(config.data.validation or config.data.train)}"
    chosen = result["num_examples"].get("validation") if result["held_out"] == "test" else None
    data = f"{result['num_examples']['train']:,} examples of {data_named(config.data.train, metadata.datasets)}"
    data += f"; {chosen:,} others chose the best step." if chosen else "."
    cut = config.data.max_length
    return compose(
        metadata,
        title,
        {
            "": _what_it_is(config, metadata, label_names),
            "Use": _usage(config),
            "Results": results(result, held_out, words),
            "Training": training(config, result, data, words),
            "Limits": limits(
                config,
                result,
                metadata,
                words,
                [f"In training a text, or a window of it, had at most {cut} tokens."] if cut else [],
            ),
        },
    )


def _what_it_is(config: Any, metadata: Any, label_names: Sequence[str]) -> str:
    text = "a pair of texts" if _reads_pairs(config) else "a text"
    answers = _ANSWERS[config.task].format(text=text, number=len(label_names))
    listed = config.task not in ("regression", "question_answering")
    labels = f": {shown_names(label_names)}" if listed else ""
    data = data_named(config.data.train, metadata.datasets)
    if not hasattr(config.model, "name"):
        return f"This model {answers}{labels}. It is a {config.model.title}, trained on {data} from random weights."
    base = named(base_on_hub(config.model), config.model.name)
    if getattr(config.model, "random_weights", False):
        return (
            f"This model {answers}{labels}. It has the shape of {base}, and was trained on {data} from random weights."
        )
    how = "an adapter of" if getattr(config, "lora", None) else "fine-tuned from"
    return f"This model {answers}{labels}. It is {how} {base}, trained on {data}."


def _made(model: Any) -> str:
    """How the model came about, for a title."""
    name = getattr(model, "name", None)
    if name is None:
        return f"{model.title[0].upper()}{model.title[1:]} trained"
    made = "trained from random weights" if getattr(model, "random_weights", False) else "fine-tuned"
    return f"{last_part(origin_of(name)).rpartition('/')[2]} {made}"


def _reads_pairs(config: Any) -> bool:
    text = with_columns(config.data, config.task).text
    return isinstance(text, list) and len(text) == 2


def _usage(config: Any) -> str:
    pair = _reads_pairs(config)
    if getattr(config, "lora", None):
        return adapter_usage(config, config.task, "ignore_mismatched_sizes=True", pair=pair)
    if not hasattr(config.model, "name"):
        return f"{own_code_note('rnn')}\n\n{plain_usage(config.task, ', trust_remote_code=True', pair)}"
    trust = ", trust_remote_code=True" if config.model.trust_remote_code else ""
    needs = f"`pip install transformers torch`.{trust_note(config.model)}"
    return f"{needs}\n\n{plain_usage(config.task, trust, pair)}"


def own_code_note(module: str) -> str:
    """What a model needs that transformers doesn't know."""
    packages, classes = "transformers torch", "`AutoModelForSequenceClassification` and `AutoTokenizer` load"
    if module == "cnn":
        packages, classes = f"{packages} pillow", "`AutoModelForImageClassification` and `AutoImageProcessor` load"
    return (
        f"`pip install {packages}`, transformers 5 or newer. The code of the network, `{module}.py`, lies beside the "
        "weights, and `trust_remote_code=True` runs it: read it first. Where hfscale is installed, "
        f"`import hfscale.models.{module}` beforehand; then {classes} it by hfscale's own code, without that argument."
    )
