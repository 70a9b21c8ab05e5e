"""The model card of an encoder-decoder."""

from __future__ import annotations

from typing import Any

import yaml

from hfscale.data.sources import is_local, last_part
from hfscale.hub.card import about_adapter, adapter_usage, score_table, time_and_changes

_ABOUT = {
    "translation": "BLEU and chrF as sacrebleu counts them by default, from 0 to 100",
    "summarization": "F1 of ROUGE 1, 2 and L with stems, from 0 to 1",
}


def seq2seq_model_card(config: Any, result: dict[str, Any]) -> str:
    """Text of the `README.md` beside the weights; local files are named by their last part only."""
    library = "peft" if config.lora else "transformers"
    metadata: dict[str, Any] = {"library_name": library, "pipeline_tag": config.task, "tags": ["hfscale"]}
    if config.model.name and not is_local(config.model.name):
        metadata["base_model"] = config.model.name
    made = (
        last_part(config.model.name) if config.model.name else f"A {config.model.type or 'marian'} from random weights"
    )
    return (
        f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n\n"
        f"# {made}, {config.task} learned from {last_part(config.data.train)}\n\n"
        f"## Results\n\n{_results(config, result)}\n\n## Training\n\n"
        f"{about_adapter(config, result)}{result['num_examples']['train']:,} pairs of at most "
        f"{config.data.max_length} and {config.data.target_length} tokens; {result['steps']:,} steps of "
        f"{config.train.global_batch_size} pairs ({result['epochs']:.2f} epochs), {config.optim.name} at a peak "
        f"learning rate of {config.optim.lr}, {config.optim.schedule} schedule, label smoothing "
        f"{config.label_smoothing}, seed {config.train.seed}; {time_and_changes(result)}\n\n"
        f"## Use\n\n{_usage(config)}"
    )


def _results(config: Any, result: dict[str, Any]) -> str:
    part = result["held_out"]
    if not part:
        return "No pairs were held out."
    chosen = ", which also chose the best step" if part == "validation" else ""
    beams = config.generation.num_beams
    about = f"{_ABOUT[config.task]}, of texts written greedily"
    about += f"; those with `beam_` of texts written with {beams} beams" if beams > 1 else ""
    number = f"{result['num_examples'][part]:,} {part} pairs"
    return f"On {number}{chosen}:\n\n{score_table({'This model': result['metrics']})}\n{about}."


def _usage(config: Any) -> str:
    loading = (
        "from transformers import AutoModelForSeq2SeqLM\n\n"
        'model = AutoModelForSeq2SeqLM.from_pretrained("PATH_OR_HUB_ID")\n'
    )
    first = adapter_usage(config, "AutoModelForSeq2SeqLM") + "\n" if config.lora else ""
    text = f"{config.data.prefix!r} + TEXT" if config.data.prefix else "TEXT"
    return (
        f"{first}```python\nfrom transformers import AutoTokenizer\n{'' if config.lora else loading}\n"
        'tokenizer = AutoTokenizer.from_pretrained("PATH_OR_HUB_ID")\n'
        f'written = model.generate(**tokenizer([{text}], return_tensors="pt"))\n'
        "tokenizer.batch_decode(written, skip_special_tokens=True)\n```\n"
    )
