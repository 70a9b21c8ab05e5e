"""What is said about a pruned model: on the screen and in its card."""

from __future__ import annotations

from typing import Any

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
    where = f"{speed['device']}, {speed['threads']} threads" if speed["device"] == "cpu" else speed["device"]
    return (
        f"{layers:.2f} times in the pruned layers, {throughput:.2f} times in a batch of {speed['batch']}, "
        f"{latency:.2f} times for one ({where}, both models by turns)"
    )


def pruned_card(card: str, report: dict[str, Any]) -> str:
    """The card of the model before, under a section about what was done to it since."""
    lines = [f"| {what} | {before} | {after} |" for what, before, after in summary(report)]
    section = (
        "## Pruned\n\n"
        f"This model was pruned after training (`{report['method']}`): {what_was_done(report)}. "
        "All that this card says further below is about the model before that.\n\n"
        "| | before | after |\n| --- | --- | --- |\n" + "\n".join(lines) + "\n\n"
        f"Faster: {speed_up(report)}.\n\n"
    )
    at = card.find("\n## ")
    return f"{card[: at + 1]}{section}{card[at + 1 :]}" if at >= 0 else f"{card}\n{section}".lstrip("\n")
