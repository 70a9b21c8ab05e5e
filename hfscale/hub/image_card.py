"""The model card of an image classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hfscale.data.sources import last_part
from hfscale.hub.card import own_code_note
from hfscale.hub.metadata import base_on_hub, model_metadata
from hfscale.hub.sections import Words, compose, data_named, limits, named, results, shown_names, training
from hfscale.hub.usage import image_usage


def image_model_card(config: Any, result: dict[str, Any], label_names: Sequence[str]) -> str:
    """Text of the `README.md` beside the weights; local files are named by their last part only."""
    train, words = last_part(config.data.train), Words("images", "images")
    title = f"Convolutional network trained on {train}"
    metadata = model_metadata(config, result, "image-classification", title, ("custom_code",))
    start = "random weights"
    if config.model.name:
        start = f"the weights of {named(base_on_hub(config.model), config.model.name)}"
    source = data_named(config.data.train, metadata.datasets)
    held_out = f"test images of {last_part(config.data.test or config.data.train)}"
    if result["held_out"] == "validation":
        held_out = f"validation images of {last_part(config.data.validation or config.data.train)}"
    chosen = result["num_examples"].get("validation") if result["held_out"] == "test" else None
    data = f"{result['num_examples']['train']:,} images of {source}"
    data += f"; {chosen:,} others chose the best step." if chosen else "."
    varied = {name: value for name, value in vars(config.augment).items() if value}
    augmentation = ", ".join(f"{name} {value}" for name, value in varied.items()) or "none"
    return compose(
        metadata,
        title,
        {
            "": f"This model gives an image one of {len(label_names)} classes: {shown_names(label_names)}. It is a "
            f"small convolutional network, trained on {source} from {start}.",
            "Use": f"{own_code_note('cnn')}\n\n{image_usage()}",
            "Results": results(result, held_out, words),
            "Training": training(config, result, data, words, [f"Augmentation: {augmentation}."]),
            "Limits": limits(config, result, metadata, words),
        },
    )
