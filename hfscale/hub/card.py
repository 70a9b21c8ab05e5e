"""The model card: metadata that the Hub understands, and prose that says only what the run measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from hfscale.data.sources import is_local, last_part
from hfscale.models import origin_of
from hfscale.models.heads import head_of
from hfscale.runs import pipeline_options

_PIPELINES = {
    "token_classification": "token-classification",
    "question_answering": "question-answering",
    "causal": "text-generation",
    "masked": "fill-mask",
}
_MANY = 30  # labels that a card lists one by one


def model_card(config: Any, result: dict[str, Any], label_names: Sequence[str]) -> str:
    """Text of the `README.md` beside a fine-tuned classifier's weights.

    Local files are named by their last part only: no path of the machine gets into what may be published.
    """
    made, base = _origin(config.model)
    metadata: dict[str, Any] = {
        "library_name": "peft" if getattr(config, "lora", None) else "transformers",
        "pipeline_tag": _PIPELINES.get(config.task, "text-classification"),
        "tags": ["hfscale"],
    }
    if base:
        metadata["base_model"] = base
    scores = {"This model": result["metrics"], **result.get("baselines", {})}
    held_out = {
        "test": f"On test rows ({last_part(config.data.test or config.data.train)})",
        "validation": "On validation rows, which also chose the best step, so that new rows may fare a little worse",
    }.get(result["held_out"] or "", "No rows were held out")
    return (
        f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n\n"
        f"# {made} on {last_part(config.data.train)}\n\n"
        f"Task: {config.task}. Outputs: {shown_names(label_names)}.\n\n"
        "## Results\n\n"
        f"{held_out}{_how_many(result)}:\n\n{score_table(scores)}\n"
        f"{_about_baselines(scores)}"
        "## Training\n\n"
        f"{about_adapter(config, result)}{result['num_examples']['train']:,} examples; "
        f"{result['steps']:,} steps of {config.train.global_batch_size} examples "
        f"({result['epochs']:.2f} epochs), {config.optim.name} at a peak learning rate of {config.optim.lr}, "
        f"{config.optim.schedule} schedule, seed {config.train.seed}; {time_and_changes(result)}\n\n"
        f"## Use\n\n{_usage(config)}"
    )


def time_and_changes(result: dict[str, Any]) -> str:
    """How long it took, and which settings were not the same in the whole run."""
    took = f"{result['train_seconds']:.0f} seconds on {result['num_processes']} process(es)."
    changes = [
        f"{name} was {before} until step {change['after_step']}, then {now}"
        for change in result.get("changed_settings", [])
        for name, (before, now) in change["settings"].items()
    ]
    return f"{took} Changed in mid-run: {'; '.join(changes)}." if changes else took


def _about_baselines(scores: dict[str, Any]) -> str:
    lines = {
        "majority": "`majority` always answers the most frequent label.",
        "tfidf": "`tfidf` is a linear model over words and word pairs.",
        "frequent_tag": "`frequent_tag` gives each word the tag that it has most often in the training examples.",
    }
    found = [line for name, line in lines.items() if name in scores]
    return "\n".join(found) + "\n\n" if found else ""


def _usage(config: Any) -> str:
    if getattr(config, "lora", None):
        return adapter_usage(config, f"AutoModelFor{head_of(config.task)}", "ignore_mismatched_sizes=True")
    return plain_usage(config.task, _own_code(config.model))


def plain_usage(kind: str, options: str = "") -> str:
    """Lines that use a plain model folder of this task, or language model (`causal`, `masked`); `options` are further
    arguments of the pipeline."""
    if kind == "question_answering":
        return '```bash\nhfscale predict PATH --text "your question" "the context that answers it"\n```\n'
    task = _PIPELINES.get(kind, "text-classification")
    return (
        "```python\nfrom transformers import pipeline\n\n"
        f'pipeline("{task}", "PATH_OR_HUB_ID"{pipeline_options(task)}{options})("your text")\n```\n'
    )


def adapter_usage(config: Any, auto_class: str, *options: str) -> str:
    """How PEFT loads an adapter: label names, padding and bits stand in its folder, which transformers does not look
    into by itself.

    Args:
        options: more arguments of `from_pretrained` of the base.
    """
    name, revision = config.model.name, getattr(config.model, "revision", None)
    base = "PATH_OF_BASE" if is_local(name) else origin_of(name)
    needed = f"`{base}`"
    if is_local(name):
        needed = f"a model that was in a local folder `{last_part(name)}`, in place of PATH_OF_BASE"
    folder, trusted = '"PATH_OR_HUB_ID"', ["trust_remote_code=True"] if config.model.trust_remote_code else []
    arguments = ["config=config", *options, *([f'revision="{revision}"'] if revision else []), *trusted]
    quant, bits_class, in_bits = getattr(config, "quant", None), "", ""
    if quant:
        bits_class = ", BitsAndBytesConfig"
        in_bits = f"in_bits = BitsAndBytesConfig(**config.hfscale_quantization)  # {_bits(quant)}\n"
        arguments.append("quantization_config=in_bits")
    return (
        f"This is an adapter. It needs {needed}, and `pip install peft{' bitsandbytes' if quant else ''}`.\n\n"
        f"```python\nfrom peft import PeftModel\nfrom transformers import AutoConfig, {auto_class}{bits_class}\n\n"
        f"config = AutoConfig.from_pretrained({', '.join([folder, *trusted])})\n{in_bits}"
        f'base = {auto_class}.from_pretrained(\n    "{base}", {", ".join(arguments)}\n)\n'
        'model = PeftModel.from_pretrained(base, "PATH_OR_HUB_ID").eval()\n```\n'
    )


def about_adapter(config: Any, result: dict[str, Any]) -> str:
    """A sentence on what was trained beside what; none without an adapter."""
    lora, quant = getattr(config, "lora", None), getattr(config, "quant", None)
    if not lora:
        return ""
    frozen = f"frozen, in {_bits(quant)}" if quant else "frozen"
    return f"Trained by {lora.method}: {result['num_trained_parameters']:,} parameters, all others {frozen}. "


def _bits(quant: Any) -> str:
    if quant.bits == 8:
        return "8 bits"
    return f"4 bits ({quant.type or 'nf4'}{', double quantization' if quant.double is not False else ''})"


def _origin(model: Any) -> tuple[str, str | None]:
    """How the model came about, for a title; and the Hub id or built-in that its weights stem from, if any."""
    name = getattr(model, "name", None)
    if name is None:
        return f"{model.title[0].upper()}{model.title[1:]} trained", None
    base = origin_of(name)
    if getattr(model, "random_weights", False):
        return f"{last_part(base)} trained from random weights", None
    return f"{last_part(base)} fine-tuned", None if is_local(name) else base


def _own_code(model: Any) -> str:
    """A model that transformers doesn't know brings its code along in the folder."""
    return "" if hasattr(model, "name") else ", trust_remote_code=True"


def shown_names(label_names: Sequence[str]) -> str:
    """The labels one by one, as long as there are not too many."""
    more = f" and {len(label_names) - _MANY} more" if len(label_names) > _MANY else ""
    return ", ".join(label_names[:_MANY]) + more


def _how_many(result: dict[str, Any]) -> str:
    return f" ({result['num_examples'][result['held_out']]:,} examples)" if result["held_out"] else ""


def score_table(scores: dict[str, dict[str, float]]) -> str:
    names = list(dict.fromkeys(name for values in scores.values() for name in values))
    lines = ["| | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]
    for row, values in scores.items():
        lines.append(f"| {row} | " + " | ".join(f"{values[n]:.4f}" if n in values else "" for n in names) + " |")
    return "\n".join(lines) + "\n"
