"""The model card: metadata that the Hub understands, and prose that says only what the run measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from hfscale.data.sources import looks_like_file
from hfscale.models import origin_of

_MANY = 30  # labels that a card lists one by one


def model_card(config: Any, result: dict[str, Any], label_names: Sequence[str]) -> str:
    """Text of the `README.md` beside a fine-tuned classifier's weights.

    Local files are named by their last part only: no path of the machine gets into what may be published.
    """
    base, is_local = origin_of(config.model.name), _is_local(config.model.name)
    metadata: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["hfscale"],
    }
    if not is_local:
        metadata["base_model"] = base
    scores = {"This model": result["metrics"], **result.get("baselines", {})}
    shown = ", ".join(label_names[:_MANY]) + (
        f" and {len(label_names) - _MANY} more" if len(label_names) > _MANY else ""
    )
    held_out = {
        "test": f"On test rows ({_last_part(config.data.test or config.data.train)})",
        "validation": "On validation rows, which also chose the best step, so that new rows may fare a little worse",
    }.get(result["held_out"] or "", "No rows were held out")
    return (
        f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n\n"
        f"# {_last_part(base)} fine-tuned on {_last_part(config.data.train)}\n\n"
        f"Task: {config.task}. Outputs: {shown}.\n\n"
        "## Results\n\n"
        f"{held_out}{_how_many(result)}:\n\n{_table(scores)}\n"
        "`majority` always answers the most frequent label; `tfidf` is a linear model over words and word pairs.\n\n"
        "## Training\n\n"
        f"{result['num_examples']['train']:,} examples; {result['steps']:,} steps of {config.train.global_batch_size} "
        f"({result['epochs']:.2f} epochs), {config.optim.name} at a peak learning rate of {config.optim.lr}, "
        f"{config.optim.schedule} schedule, seed {config.train.seed}; {result['train_seconds']:.0f} seconds on "
        f"{result['num_processes']} process(es).\n\n"
        "## Use\n\n"
        "```python\nfrom transformers import pipeline\n\n"
        'pipeline("text-classification", "PATH_OR_HUB_ID")("your text")\n```\n'
    )


def _how_many(result: dict[str, Any]) -> str:
    return f" ({result['num_examples'][result['held_out']]:,} examples)" if result["held_out"] else ""


def _last_part(name: str) -> str:
    return Path(name).name if _is_local(name) else name


def _is_local(name: str) -> bool:
    """True for a file, folder or glob; False for a built-in or a Hub id."""
    plain = name.partition("#")[0]
    return not name.startswith("builtin:") and (looks_like_file(plain) or Path(name).expanduser().exists())


def _table(scores: dict[str, dict[str, float]]) -> str:
    names = list(dict.fromkeys(name for values in scores.values() for name in values))
    lines = ["| | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]
    for row, values in scores.items():
        lines.append(f"| {row} | " + " | ".join(f"{values[n]:.4f}" if n in values else "" for n in names) + " |")
    return "\n".join(lines) + "\n"
