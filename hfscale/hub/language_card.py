"""The model card of a pretrained language model."""

from __future__ import annotations

import json
from typing import Any

import yaml

from hfscale.data.sources import is_local, last_part
from hfscale.hub.card import about_adapter, adapter_usage, score_table, time_and_changes

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
    asked = ""
    if config.answers.number:
        number = config.answers.number
        asked = f" `exact_match` and `stopped` are shares of the first {number} that leave room for an answer."
    about = f"The loss is that of the answers, their end included.{asked}"
    return _answering_card(config, result, "taught to answer on", "conversations", about, "sequences")


def preference_model_card(config: Any, result: dict[str, Any]) -> str:
    """As `language_model_card`, of a model that learned which answers are preferred."""
    about = (
        f"The loss is that of direct preference optimization with beta {config.preference.beta}; `accuracy` is the "
        "share of pairs of which the model has come to favour the chosen answer, against the model it was trained "
        "from, and `margin` by how much."
    )
    return _answering_card(config, result, "trained on the preferences of", "pairs of answers", about, "pairs")


def _answering_card(
    config: Any, result: dict[str, Any], made: str, examples: str, about_scores: str, batch_of: str
) -> str:
    library = "peft" if config.lora else "transformers"
    metadata: dict[str, Any] = {"library_name": library, "pipeline_tag": "text-generation", "tags": ["hfscale"]}
    if not is_local(config.model.name):
        metadata["base_model"] = config.model.name
    scores = score_table({"This model": result["metrics"]})
    held_out = f"On held-out {examples}, which also chose the best step:\n\n{scores}\n{about_scores}"
    return (
        f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n\n"
        f"# {last_part(config.model.name)}, {made} {last_part(config.data.train)}\n\n"
        f"## Results\n\n{held_out if result['held_out'] else f'No {examples} were held out.'}\n\n"
        "## Training\n\n"
        f"{about_adapter(config, result)}{result['num_examples']['train']:,} {examples} of at most "
        f"{config.data.max_length} tokens; "
        f"{result['steps']:,} steps of {config.train.global_batch_size} {batch_of} ({result['epochs']:.2f} epochs), "
        f"{config.optim.name} at a peak learning rate of {config.optim.lr}, {config.optim.schedule} schedule, seed "
        f"{config.train.seed}; {time_and_changes(result)}\n\n"
        f"## Use\n\n{_adapter_chat(config) if config.lora else chat_usage(config.data.system)}"
    )


def chat_usage(system: str | None) -> str:
    """Lines that ask a plain model folder, behind the system message that it was trained with."""
    return f"""\
```python
from transformers import pipeline

ask = pipeline("text-generation", "PATH_OR_HUB_ID")
ask({_messages(system)})[0]["generated_text"][-1]["content"]
```
"""


def _messages(system: str | None) -> str:
    """What is asked, as Python."""
    first = f'{{"role": "system", "content": {json.dumps(system, ensure_ascii=False)}}}, ' if system else ""
    return f'[{first}{{"role": "user", "content": TEXT}}]'


def _adapter_chat(config: Any) -> str:
    """The adapter's own folder says where an answer ends, and how messages are written."""
    return (
        adapter_usage(config, "AutoModelForCausalLM")
        + f"""
```python
from transformers import AutoTokenizer, GenerationConfig

tokenizer = AutoTokenizer.from_pretrained("PATH_OR_HUB_ID")
ends = GenerationConfig.from_pretrained("PATH_OR_HUB_ID").eos_token_id
asked = tokenizer.apply_chat_template(
    {_messages(config.data.system)}, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
answer = model.generate(**asked, max_new_tokens=128, eos_token_id=ends)[0, asked["input_ids"].shape[1] :]
tokenizer.decode(answer, skip_special_tokens=True)
```
"""
    )
