"""What is said about a pruned model: on the screen and in its card."""

from __future__ import annotations

import dataclasses
from typing import Any

from huggingface_hub import EvalResult, ModelCard

from hfscale.evaluation.hub_names import HUB_NAMES

ZEROS = (
    "zeros are stored and multiplied like other numbers, so that the file is as large as before, and the model no "
    "faster on hardware for dense weights"
)


def summary(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(what, before, after) rows."""
    rows = []
    for name in (report["metrics"] or {"before": {}})["before"]:
        values = [report["metrics"][when][name] for when in ("before", "after")]
        rows.append(
            (f"{name} ({report['held_out']})", *("-" if value is None else f"{value:.4f}" for value in values))
        )
    for name, key in (("parameters", "num_parameters"), ("bytes of weights", "bytes")):
        rows.append((name, *(f"{report[key][when]:,}" for when in ("before", "after"))))
    speed = report["speed"]
    shown = {"ms for one": ("latency_ms", ".2f"), "per second": ("examples_per_second", ",.1f")}
    shown["ms in the pruned layers"] = ("layers_ms", ".2f")
    for name, (key, form) in shown.items():
        rows.append((name, *(f"{speed[when][key]:{form}}" for when in ("before", "after"))))
    return rows


def what_was_done(report: dict[str, Any]) -> str:
    """One sentence."""
    zeros = f"{report['share_of_zeros']['after']:.1%} of the weights between embeddings and head are zero"
    if report["method"] == "movement":
        learned = f"those that {report['steps']:,} steps of training moved towards zero (Sanh et al. 2020)"
        return f"{zeros}, in each layer {learned}, while the others were trained; {ZEROS}"
    if report["method"] == "magnitude":
        return f"{zeros}, the smallest of all layers together; {ZEROS}"
    by = "the size of their weights"
    if report["importance"] == "taylor":
        by = f"the first-order change of the loss on {report['examples']:,} training examples (Molchanov et al. 2019)"
    kinds: dict[str, list[str]] = {}
    for layer in report["layers"]:
        kinds.setdefault(layer["kind"], []).append(f"{layer['before']:,} -> {layer['after']:,}")
    parts = [
        f"{changes[0]} {kind} in each of {len(changes)} layers" if len(set(changes)) == 1
        else f"{', '.join(changes)} {kind}"
        for kind, changes in kinds.items()
    ]  # fmt: skip
    stay = f"; attention heads stay: {report['model_type']}'s config can't say that there are fewer of the same size"
    return f"{' and '.join(parts)}, chosen by {by}{stay if report['attention_heads_stay'] else ''}"


def speed_up(report: dict[str, Any]) -> str:
    """One sentence."""
    speed = report["speed"]
    latency, throughput, layers = (speed["speed_up"][name] for name in ("latency", "throughput", "pruned_layers"))
    where = (
        f"{speed['device']}, {speed['threads']} thread{'s' if speed['threads'] != 1 else ''}"
        if speed["device"] == "cpu"
        else speed["device"]
    )
    return (
        f"{layers:.2f} times in the pruned layers, {throughput:.2f} times in a batch of {speed['batch']}, "
        f"{latency:.2f} times for one ({where}, both models by turns)"
    )


def _measured_again(results: list[EvalResult], report: dict[str, Any]) -> list[EvalResult]:
    """The results of the model before, with the values of the pruned one; without those that are not known of it."""
    after = (report["metrics"] or {"after": {}})["after"]
    values = {HUB_NAMES[name][1]: value for name, value in after.items() if name in HUB_NAMES and value is not None}
    return [
        dataclasses.replace(each, metric_value=round(values[each.metric_name], 6))
        for each in results
        if each.metric_name in values
    ]


def pruned_card(card: str, report: dict[str, Any]) -> str:
    """The card of the model before, under a section about what was done to it since."""
    lines = [f"| {what} | {before} | {after} |" for what, before, after in summary(report)]
    section = (
        "## Pruned\n\n"
        f"This model was pruned after training (`{report['method']}`, sparsity {report['sparsity']:g}): "
        f"{what_was_done(report)}. The results and the training further below are those of the model before that.\n\n"
        "| | before | after |\n| --- | --- | --- |\n" + "\n".join(lines) + "\n\n"
        f"Faster: {speed_up(report)}.\n\n"
    )
    before = ModelCard(card, ignore_metadata_errors=True)
    data: Any = before.data
    data.eval_results = _measured_again(data.eval_results or [], report) or None
    data.model_name = data.model_name if data.eval_results else None
    data.tags = list(dict.fromkeys([*(data.tags or []), "pruned"]))
    body = before.text.replace("\n## Pruned\n", "\n## Pruned before\n")
    at = body.find("\n## ")
    before.text = f"{body[: at + 1]}{section}{body[at + 1 :]}" if at >= 0 else f"{body}\n{section}"
    return before.content
