"""The model cards of language models: pretrained, taught to answer, and taught what is preferred."""

from __future__ import annotations

from typing import Any

from hfscale.data.sources import last_part
from hfscale.hub.metadata import base_on_hub, model_metadata
from hfscale.hub.sections import Words, compose, data_named, limits, named, results, training
from hfscale.hub.usage import adapter_chat, chat_usage, plain_usage, trust_note

_BITS = {
    "text-generation": "`bits_per_byte` counts the bits that the model needs for a byte of text.",
    "fill-mask": "`bits_per_byte` is the loss at masked tokens in bits, times the tokens per byte of text.",
}
_KINDS = {"text-generation": "causal", "fill-mask": "masked"}
_DOES = {"text-generation": "goes on with a text", "fill-mask": "fills in masked words of a text"}


def language_model_card(config: Any, result: dict[str, Any], pipeline_tag: str) -> str:
    """Text of the `README.md` beside the weights; local files are named by their last part only."""
    title = f"Language model trained on {last_part(config.data.train)}"
    words = Words("sequences", "sequences")
    metadata = model_metadata(config, result, pipeline_tag, title)
    source = data_named(config.data.train, metadata.datasets)
    start = (
        f"the weights of {named(base_on_hub(config.model), config.model.name)}"
        if config.model.name
        else "random weights"
    )
    data = (
        f"{result['num_tokens']['train']:,} tokens of {source} in {result['num_examples']['train']:,} sequences of at "
        f"most {config.data.max_length}."
    )
    trust = ", trust_remote_code=True" if config.model.trust_remote_code else ""
    needs = f"`pip install transformers torch`.{trust_note(config.model)}"
    sections = {
        "": f"This model {_DOES[pipeline_tag]}. It was trained on {source} from {start}.",
        "Use": f"{needs}\n\n{plain_usage(_KINDS[pipeline_tag], trust)}",
        "Results": results(result, f"held-out sequences of {_held_out(config)}", words, _BITS[pipeline_tag]),
        "Training": training(config, result, data, words),
        "Limits": limits(config, result, metadata, words, _lengths(config)),
    }
    return compose(metadata, title, sections)


def chat_model_card(config: Any, result: dict[str, Any]) -> str:
    """As `language_model_card`, of a model that was taught to answer."""
    about = "The loss is that of the answers, their end included."
    if config.answers.number and result["held_out"]:
        about += (
            f" `exact_match` and `stopped` are shares of the first {config.answers.number} conversations that leave "
            "room for an answer: that were answered as was to be learned, and whose answer came to its end."
        )
    return _answering_card(config, result, "taught to answer on", Words("conversations", "sequences"), about)


def preference_model_card(config: Any, result: dict[str, Any]) -> str:
    """As `language_model_card`, of a model that learned which answers are preferred."""
    about = (
        f"The loss is that of direct preference optimization with beta {config.preference.beta}; `accuracy` is the "
        "share of pairs of which the model has come to favour the chosen answer, against the model it was trained "
        "from, and `margin` by how much."
    )
    return _answering_card(config, result, "trained on the preferences of", Words("pairs of answers", "pairs"), about)


def _answering_card(config: Any, result: dict[str, Any], made: str, words: Words, about: str) -> str:
    title = f"{last_part(config.model.name).rpartition('/')[2]}, {made} {last_part(config.data.train)}"
    metadata = model_metadata(config, result, "text-generation", title, ("conversational",))
    source = data_named(config.data.train, metadata.datasets)
    how = "an adapter of" if config.lora else "fine-tuned from"
    base = named(base_on_hub(config.model), config.model.name)
    number = result["num_examples"]["train"]
    data = f"{number:,} {words.examples} of {source}, of at most {config.data.max_length} tokens."
    trust = ", trust_remote_code=True" if config.model.trust_remote_code else ""
    plain = f"`pip install transformers torch`.{trust_note(config.model)}\n\n{chat_usage(vars(config.data), trust)}"
    sections = {
        "": f"This model answers messages. It is {how} {base}, {made} {source}.",
        "Use": adapter_chat(config) if config.lora else plain,
        "Results": results(result, f"held-out {words.examples} of {_held_out(config)}", words, about),
        "Training": training(config, result, data, words),
        "Limits": limits(config, result, metadata, words, _lengths(config)),
    }
    return compose(metadata, title, sections)


def _held_out(config: Any) -> str:
    return last_part(config.data.validation or config.data.train)


def _lengths(config: Any) -> list[str]:
    return [f"Trained on sequences of at most {config.data.max_length} tokens."]
