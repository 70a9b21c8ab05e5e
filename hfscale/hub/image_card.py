"""The model card of an image classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from hfscale.hub.card import is_local, last_part, score_table, shown_names, time_and_changes


def image_model_card(config: Any, result: dict[str, Any], label_names: Sequence[str]) -> str:
    """Text of the `README.md` beside the weights; local files are named by their last part only."""
    metadata: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "image-classification",
        "tags": ["hfscale"],
    }
    if config.model.name and not is_local(config.model.name):
        metadata["base_model"] = config.model.name
    start = f"the weights of {last_part(config.model.name)}" if config.model.name else "random weights"
    scores = {"This model": result["metrics"], **result.get("baselines", {})}
    varied = {name: value for name, value in vars(config.augment).items() if value}
    augmentation = ", ".join(f"{name} {value}" for name, value in varied.items()) or "none"
    held_out = {
        "test": f"On test images ({last_part(config.data.test or config.data.train)})",
        "validation": "On validation images, which also chose the best step, so that new ones may fare a little worse",
    }.get(result["held_out"] or "", "No images were held out")
    number = f" ({result['num_examples'][result['held_out']]:,} images)" if result["held_out"] else ""
    return (
        f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n\n"
        f"# Convolutional network trained on {last_part(config.data.train)}\n\n"
        f"Classes: {shown_names(label_names)}.\n\n"
        "## Results\n\n"
        f"{held_out}{number}:\n\n{score_table(scores)}\n"
        f"{_about_baselines(scores)}"
        "## Training\n\n"
        f"{result['num_examples']['train']:,} images, from {start}; {result['steps']:,} steps of "
        f"{config.train.global_batch_size} images ({result['epochs']:.2f} epochs), {config.optim.name} at a peak "
        f"learning rate of {config.optim.lr}, {config.optim.schedule} schedule, seed {config.train.seed}; "
        f"augmentation: {augmentation}; {time_and_changes(result)}\n\n"
        "## Use\n\n"
        "The code of the network, `cnn.py`, lies beside the weights; it needs transformers 5.\n\n"
        "```python\nfrom transformers import pipeline\n\n"
        'pipeline("image-classification", "PATH_OR_HUB_ID", trust_remote_code=True)("image.png")\n```\n'
    )


def _about_baselines(scores: dict[str, Any]) -> str:
    lines = {
        "majority": "`majority` always answers the most frequent class.",
        "logistic": "`logistic` is a logistic regression on the pixels.",
    }
    found = [line for name, line in lines.items() if name in scores]
    return "\n".join(found) + "\n\n" if found else ""
