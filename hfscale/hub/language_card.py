"""The model card of a pretrained language model."""

from __future__ import annotations

from typing import Any

import yaml

from hfscale.hub.card import is_local, last_part, score_table, time_and_changes

_BITS = {
    "text-generation": "`bits_per_byte` counts the bits that the model needs for a byte of text.",
    "fill-mask": "`bits_per_byte` is the loss at masked tokens in bits, times the tokens per byte of text.",
}


def language_model_card(config: Any, result: dict[str, Any], pipeline_tag: str) -> str:
    """Text of the `README.md` beside the weights; local files are named by their last part only."""
    metadata: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": pipeline_tag, "tags": ["hfscale"]}
    if config.model.name and not is_local(config.model.name):
        metadata["base_model"] = config.model.name
    start = f"from {last_part(config.model.name)}" if config.model.name else "from random weights"
    scores = {"This model": result["metrics"], **result.get("baselines", {})}
    held_out = "On held-out text, which also chose the best step" if result["held_out"] else "No text was held out"
    return (
        f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n\n"
        f"# Language model trained on {last_part(config.data.train)}\n\n"
        "## Results\n\n"
        f"{held_out}:\n\n{score_table(scores)}\n"
        f"{_BITS[pipeline_tag]} `unigram` knows only how frequent each token is.\n\n"
        "## Training\n\n"
        f"Started {start}; {result['num_tokens']['train']:,} tokens in sequences of {config.data.max_length}; "
        f"{result['steps']:,} steps of {config.train.global_batch_size} sequences ({result['epochs']:.2f} epochs), "
        f"{config.optim.name} at a peak learning rate of {config.optim.lr}, {config.optim.schedule} schedule, seed "
        f"{config.train.seed}; {time_and_changes(result)}\n\n"
        "## Use\n\n"
        "```python\nfrom transformers import pipeline\n\n"
        f'pipeline("{pipeline_tag}", "PATH_OR_HUB_ID")(TEXT)\n```\n'
    )
