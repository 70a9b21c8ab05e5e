"""The model card of a pretrained language model."""

from __future__ import annotations

from typing import Any

import yaml

from hfscale.data.sources import is_local, last_part
from hfscale.hub.card import score_table, time_and_changes

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


def chat_model_card(config: Any, result: dict[str, Any]) -> str:
    """As `language_model_card`, of a model that was taught to answer."""
    metadata: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["hfscale"]}
    if not is_local(config.model.name):
        metadata["base_model"] = config.model.name
    held_out = "On held-out conversations, which also chose the best step"
    asked = (
        f" `exact_match` and `stopped` are shares of {config.answers.number} of them." if config.answers.number else ""
    )
    scores = f"{held_out}:\n\n{score_table({'This model': result['metrics']})}\n"
    scores += f"The loss is that of the answers, their end included.{asked}\n\n"
    return (
        f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n\n"
        f"# {last_part(config.model.name)}, taught to answer on {last_part(config.data.train)}\n\n"
        f"## Results\n\n{scores if result['held_out'] else 'No conversations were held out.'}\n\n"
        "## Training\n\n"
        f"{result['num_examples']['train']:,} conversations of at most {config.data.max_length} tokens; "
        f"{result['steps']:,} steps of {config.train.global_batch_size} sequences ({result['epochs']:.2f} epochs), "
        f"{config.optim.name} at a peak learning rate of {config.optim.lr}, {config.optim.schedule} schedule, seed "
        f"{config.train.seed}; {time_and_changes(result)}\n\n"
        "## Use\n\n"
        "```python\nfrom transformers import pipeline\n\n"
        'ask = pipeline("text-generation", "PATH_OR_HUB_ID")\n'
        'ask([{"role": "user", "content": TEXT}])[0]["generated_text"][-1]["content"]\n```\n'
    )
