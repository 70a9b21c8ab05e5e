"""The parts of a card that say what a run measured, the same for all kinds of models."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import ModelCardData

from hfscale.data.sources import last_part
from hfscale.hub.usage import in_words
from hfscale.training.best import LOWER_IS_BETTER

WATTS_PER_CORE = 10
"""Assumed for a busy core of a processor where nothing says what it takes."""
_MANY = 30  # labels that a card lists one by one
_BASELINES = {
    "majority": "always answers what is most frequent in training",
    "tfidf": "is a linear model over words and word pairs",
    "frequent_tag": "gives each word the tag that it has most often in the training examples",
    "logistic": "is a logistic regression on the pixels",
    "unigram": "knows only how frequent each token is",
}
_PACKAGES = ("hfscale", "transformers", "torch", "datasets")


class Words(NamedTuple):
    """What the examples of a card are called."""

    examples: str = "examples"
    """Held out and trained on."""
    batch_of: str = "examples"
    """What a step takes a number of."""


def compose(metadata: ModelCardData, title: str, sections: dict[str, str]) -> str:
    """A card: its metadata, its title, and its sections, of which one without a name has no heading."""
    parts = [f"---\n{metadata.to_yaml()}\n---\n", f"# {title}\n"]
    for name, text in sections.items():
        parts += [f"## {name}\n", text.strip() + "\n"] if name and text else [text.strip() + "\n"] if text else []
    return "\n".join(parts)


def results(result: dict[str, Any], held_out: str, words: Words, about: str = "") -> str:
    """The held-out metrics in a table, with their intervals and what simple methods reach, and what all of that means.

    Args:
        held_out: on what they were measured, after its number.
        about: sentences on the metrics.
    """
    if not result["held_out"]:
        return f"No {words.examples} were held out, so that nothing was measured."
    number = result["num_examples"][result["held_out"]]
    baselines = result.get("baselines", {})
    intervals = result.get("confidence_intervals", {})
    table = score_table({"This model": result["metrics"], **baselines}, {"This model": intervals})
    explained = [f"`{name}` {_BASELINES[name]}." for name in baselines]
    paragraphs = [f"On {number:,} {held_out}:", table, about, _about_intervals(intervals), "\n".join(explained)]
    return "\n\n".join(part.strip() for part in paragraphs if part)


def _about_intervals(intervals: dict[str, Any]) -> str:
    methods = {"wilson": "Wilson's method", "bootstrap": "1,000 bootstrap resamples"}
    by = {method: [f"`{name}`" for name, each in intervals.items() if each["method"] == method] for method in methods}
    found = [f"of {' and '.join(names)} by {methods[method]}" for method, names in by.items() if names]
    if not found:
        return ""
    return (
        f"In brackets are 95% confidence intervals, {', '.join(found)}: how far other held-out examples of the same "
        "kind might move the figures, not what another training run would give."
    )


def score_table(scores: dict[str, dict[str, float]], intervals: dict[str, dict[str, Any]] | None = None) -> str:
    """A row for each of what was scored, a column for each metric; what is not a number is left out."""
    names = list(dict.fromkeys(name for values in scores.values() for name in values))
    lines = ["| | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]
    for row, values in scores.items():
        known = (intervals or {}).get(row, {})
        lines.append(f"| {row} | " + " | ".join(_cell(values.get(name), known.get(name)) for name in names) + " |")
    return "\n".join(lines) + "\n"


def _cell(value: float | None, interval: dict[str, Any] | None) -> str:
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:.4f}" + (f" ({interval['low']:.4f} to {interval['high']:.4f})" if interval else "")


def training(config: Any, result: dict[str, Any], data: str, words: Words, more: Sequence[str] = ()) -> str:
    """What was trained on what, how, on which machine, how long, and about how much energy that took.

    Args:
        data: the line about what was trained on.
        more: further lines about the procedure.
    """
    train, optim = config.train, config.optim
    best = result.get("best_step")
    chosen = f"; the weights are those of step {best}, the best" if best not in (None, result["steps"]) else ""
    lines = [
        f"Data: {data}",
        *filter(None, [trained_weights(config, result)]),
        f"Procedure: {result['steps']:,} steps of {train.global_batch_size} {words.batch_of} "
        f"({result['epochs']:.2f} epochs), {optim.name} at a peak learning rate of {optim.lr}, {optim.schedule} "
        f"schedule, seed {train.seed}{chosen}.",
        *more,
        *_changes(result),
        *_machine(_environment(config), result),
    ]
    return "\n".join(f"- {line}" for line in lines)


def trained_weights(config: Any, result: dict[str, Any]) -> str:
    """A line on what was trained beside what."""
    lora, quant = getattr(config, "lora", None), getattr(config, "quant", None)
    trained, all_of_them = result.get("num_trained_parameters"), result.get("num_parameters")
    if lora:
        frozen = f"frozen, in {in_words(quant)}" if quant else "frozen"
        return f"Weights: an adapter ({lora.method}) of {trained:,} parameters; all others {frozen}."
    return f"Weights: all {all_of_them:,} were trained." if all_of_them and trained == all_of_them else ""


def _changes(result: dict[str, Any]) -> list[str]:
    """Which settings were not the same in the whole run."""
    changes = [
        f"{name} was {before} until step {change['after_step']}, then {now}"
        for change in result.get("changed_settings", [])
        for name, (before, now) in change["settings"].items()
    ]
    return [f"Changed in mid-run: {'; '.join(changes)}."] if changes else []


def _environment(config: Any) -> dict[str, Any]:
    """What the run noted of its machine; empty where there is no run folder."""
    try:
        return json.loads((Path(config.train.output_dir) / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _machine(environment: dict[str, Any], result: dict[str, Any]) -> list[str]:
    number, seconds, memory = result["num_processes"], result["train_seconds"], result.get("peak_memory_bytes")
    earlier = [_hardware(each, each["num_processes"]) for each in environment.get("earlier", [])]
    lines = [f"Hardware{' of the last start' if earlier else ''}: {_hardware(environment, number)}."]
    lines += [f"Hardware of earlier starts: {'; '.join(earlier)}."] if earlier else []
    most = f"; at most {memory / 2**30:.2f} GiB of memory in a process" if memory else ""
    lines.append(f"Time: {_duration(seconds)} of training, evaluation and saving left out{most}.")
    lines += filter(None, [_energy(environment, number, seconds)])
    packages = environment.get("packages", {})
    used = ", ".join(f"{name} {packages[name]}" for name in _PACKAGES if name in packages)
    return [*lines, *([f"Software: {used}."] if used else [])]


def _hardware(environment: dict[str, Any], number: int) -> str:
    """So many processes on such a device."""
    processes, device, precision = _count(number, "process", "es"), "", environment.get("precision")
    if environment.get("device") == "cpu":
        threads = _count(environment["threads_per_process"], "thread")
        device = f" on a CPU of {_count(environment['cpu_cores'], 'core')}, {threads} each"
    elif environment:
        device = f" on {environment['device']} each"
    return f"{processes}{device}{f', {precision}' if precision else ''}"


def _count(number: int, name: str, plural: str = "s") -> str:
    return f"{number} {name}{plural if number != 1 else ''}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return _count(round(seconds), "second") if seconds >= 1 else "less than a second"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def _energy(environment: dict[str, Any], number: int, seconds: float) -> str:
    """The time of training times a wattage, which is said; nothing where none is known."""
    if environment.get("device") == "cpu":
        cores = min(number * environment["threads_per_process"], environment["cpu_cores"])
        watts, times = cores * WATTS_PER_CORE, f"{_count(cores, 'busy core')} x {WATTS_PER_CORE} W, which is assumed"
    elif environment.get("power_limit_watts"):
        limit = environment["power_limit_watts"]
        watts, times = number * limit, f"{_count(number, 'GPU')} x {limit:.0f} W, the most it may take"
    else:
        return ""
    hours = watts * seconds / 3600
    amount = f"about {hours / 1000:.2g} kWh" if hours >= 1000 else f"about {hours:.2g} Wh"
    amount = amount if hours >= 0.01 else "less than 0.01 Wh"
    alone = ", as if all starts had had the hardware of the last" if environment.get("earlier") else ""
    return (
        f"Energy: {amount}, an estimate and no measurement: {_duration(seconds)} x {times}{alone}; the rest of the "
        "machine is not in it."
    )


def limits(
    config: Any, result: dict[str, Any], metadata: ModelCardData, words: Words, more: Sequence[str] = ()
) -> str:
    """What the run does not know, and what it found against the model."""
    lines = list(more)
    held_out, train = result["held_out"], config.data.train
    if held_out:
        number = f"{result['num_examples'][held_out]:,} {words.examples}"
        lines.append(
            f"Measured on those {number} and on nothing else: not on other sources, not for groups of people."
        )
    if held_out == "validation":
        lines.append(f"The same {words.examples} chose the best step, so that new ones may fare a little worse.")
    lines += _no_better(result)
    if train.startswith("builtin:"):
        lines.append(f"`{train}` is a data set for first runs and tests.")
    if not metadata.language and metadata.pipeline_tag != "image-classification":
        lines.append("The language of the data was not noted.")
    return "\n".join(f"- {line}" for line in lines)


def _no_better(result: dict[str, Any]) -> list[str]:
    main = next(iter(result["metrics"]), None)
    value, sign = result["metrics"].get(main), -1 if main in LOWER_IS_BETTER else 1
    if main is None or value is None or not math.isfinite(value):
        return []
    better = [n for n, each in result.get("baselines", {}).items() if sign * each.get(main, math.nan) >= sign * value]
    return [f"By {main} it is no better than {', '.join(f'`{name}`' for name in better)}."] if better else []


def shown_names(label_names: Sequence[str]) -> str:
    """The labels one by one, as long as there are not too many."""
    more = f" and {len(label_names) - _MANY} more" if len(label_names) > _MANY else ""
    return ", ".join(f"`{name}`" for name in label_names[:_MANY]) + more


def named(base: str | None, name: str) -> str:
    """A model by its link on the Hub where it is there, else by its last part."""
    return f"[{base}](https://huggingface.co/{base})" if base else f"`{last_part(name)}`"


def data_named(name: str, datasets: Any) -> str:
    """As `named`, of a data set that is on the Hub where it stands in the metadata."""
    return f"[{datasets[0]}](https://huggingface.co/datasets/{datasets[0]})" if datasets else f"`{last_part(name)}`"
