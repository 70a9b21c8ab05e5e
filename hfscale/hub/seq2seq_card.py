"""The model card of an encoder-decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hfscale.data.sources import last_part
from hfscale.hub.metadata import base_on_hub, model_metadata
from hfscale.hub.sections import Words, compose, data_named, limits, named, results, training
from hfscale.hub.usage import PLACE, SENTENCEPIECE, adapter_usage, trust_note

_ABOUT = {
    "translation": "BLEU and chrF as sacrebleu counts them by default, from 0 to 100",
    "summarization": "F1 of ROUGE 1, 2 and L with stems, from 0 to 1",
}


def seq2seq_model_card(config: Any, result: dict[str, Any]) -> str:
    """Text of the `README.md` beside the weights; local files are named by their last part only."""
    made = (
        last_part(config.model.name) if config.model.name else f"A {config.model.type or 'marian'} from random weights"
    )
    title, words = f"{made}, {config.task} learned from {last_part(config.data.train)}", Words("pairs", "pairs")
    metadata = model_metadata(config, result, config.task, title)
    source = data_named(config.data.train, metadata.datasets)
    start = named(base_on_hub(config.model), config.model.name) if config.model.name else "random weights"
    part, beams = result["held_out"], config.generation.num_beams
    about = f"{_ABOUT[config.task]}, of texts written greedily"
    about += f"; those with `beam_` of texts written with {beams} beams." if beams > 1 else "."
    data = f"{result['num_examples']['train']:,} pairs of {source}, of at most {config.data.max_length} and "
    data += f"{config.data.target_length} tokens."
    held_out = f"{part} pairs of {last_part(getattr(config.data, part or '', None) or config.data.train)}"
    more = [f"Label smoothing: {config.label_smoothing}."]
    return compose(
        metadata,
        title,
        {
            "": f"This model writes a text for a text ({config.task}). It was trained on {source} from {start}.",
            "Use": _usage(config),
            "Results": results(result, held_out, words, about),
            "Training": training(config, result, data, words, more),
            "Limits": limits(config, result, metadata, words),
        },
    )


def _usage(config: Any) -> str:
    if not config.lora:
        trust = ", trust_remote_code=True" if getattr(config.model, "trust_remote_code", False) else ""
        packages = f"transformers torch{SENTENCEPIECE if config.model.name else ''}"  # new tokenizers need none
        needs = f"`pip install {packages}`.{trust_note(config.model)}\n\n"
        return needs + seq2seq_usage(vars(config.data), trust)
    writes = (
        "from transformers import GenerationConfig\n\n"
        f'model.get_base_model().generation_config = GenerationConfig.from_pretrained("{PLACE}")\n'
    )
    return f"{adapter_usage(config, 'seq2seq')}\n{_write(writes, config.data.prefix)}"


def seq2seq_usage(data: Mapping[str, Any], options: str = "") -> str:
    """Lines that let a plain model folder write, of a text behind the prefix that it was trained with.

    Args:
        data: the settings of the run's data.
        options: further arguments of what loads it, each behind a comma.
    """
    loading = (
        "from transformers import AutoModelForSeq2SeqLM\n\n"
        f'model = AutoModelForSeq2SeqLM.from_pretrained("{PLACE}"{options})\n'
    )
    return _write(loading, data.get("prefix") or "")


def _write(loading: str, prefix: str) -> str:
    text = f'{prefix!r} + "your text"' if prefix else '"your text"'
    return (
        f"```python\nfrom transformers import AutoTokenizer\n{loading}\n"
        f'tokenizer = AutoTokenizer.from_pretrained("{PLACE}")\n'
        f'written = model.generate(**tokenizer([{text}], return_tensors="pt").to(model.device))\n'
        "print(tokenizer.batch_decode(written, skip_special_tokens=True))\n```\n"
    )
