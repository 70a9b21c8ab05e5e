"""The model card of an exported model: that of the model it was made from, with what was done and what it changed."""

from __future__ import annotations

import re
from typing import Any

from huggingface_hub import ModelCard

from hfscale.hub.usage import SENTENCEPIECE

_SECTION = r"^## {}\n.*?(?=^## |\Z)"


def exported_card(text: str, exported: dict[str, Any], usage: str, published: str | None = None) -> str:
    """Text of the `README.md` beside exported weights.

    Args:
        text: the card of the model before.
        exported: what stands in `export.json`.
        usage: lines that use the model, where those of before no longer do: it was an adapter, or has become ONNX.
        published: the repository of the model before, where it has one: what is in few bits is then said to be that
            model quantized.
    """
    card = ModelCard(text, ignore_metadata_errors=True)
    data: Any = card.data
    is_onnx, in_few_bits = exported["format"] == "onnx", exported["bits"] in (4, 8)
    data.library_name = "onnx" if is_onnx else "transformers"
    tags = list(data.tags or [])
    if exported["bits"] or is_onnx:
        data.eval_results = data.model_name = None  # they were measured on the model before
        tags += [f"{exported['bits']}-bit"] if exported["bits"] else []
        tags += ["bitsandbytes"] if in_few_bits else []
    data.tags = list(dict.fromkeys(tags)) or None
    if exported["bits"] and published and not exported["merged_into"]:
        data.base_model, data["base_model_relation"] = published, "quantized"
    elif data.get("base_model_relation") == "adapter":
        data["base_model_relation"] = "finetune"
    body = without_section(card.text, "Export")
    if is_onnx:
        body = replaced_section(body, "Use", usage)
    elif exported["merged_into"]:
        packages = f"{' bitsandbytes' if in_few_bits else ''}{SENTENCEPIECE if SENTENCEPIECE in body else ''}"
        needs = f"`pip install transformers torch{packages}`."
        body = replaced_section(body, "Use", f"{needs}\n\n{usage}")
    elif in_few_bits:
        body = body.replace("`pip install transformers torch", "`pip install transformers torch bitsandbytes", 1)
    if exported["merged_into"]:
        body = body.replace("It is an adapter of ", "It is fine-tuned by an adapter, merged since, from ", 1)
    card.text = f"{body.rstrip()}\n\n## Export\n\n{_what(exported)}\n\n{_comparisons(exported)}"
    return card.content


def without_section(body: str, name: str) -> str:
    """The text of a card without a section."""
    return re.sub(_SECTION.format(name), "", body, flags=re.DOTALL | re.MULTILINE)


def replaced_section(body: str, name: str, text: str) -> str:
    """The text of a card with another section of that name, at its place, or at the end."""
    section = f"## {name}\n\n{text.strip()}\n\n"
    found, number = re.subn(_SECTION.format(name), lambda _: section, body, count=1, flags=re.DOTALL | re.MULTILINE)
    return found if number else f"{body.rstrip()}\n\n{section}"


def _what(exported: dict[str, Any]) -> str:
    done = []
    if exported["merged_into"]:
        done.append(f"The adapter was merged into {exported['merged_into']}, in float32.")
    if exported["bits"] == 16:
        done.append("All weights are held in bfloat16.")
    elif exported["bits"]:
        kind = "LLM.int8" if exported["bits"] == 8 else "nf4, double quantization"
        layers = exported["quantized_layers"]
        done.append(
            f"The weights of {layers['layers']} linear layers are held in {exported['bits']} bits ({kind}), "
            f"{layers['disk_bytes'] / layers['float32_bytes']:.1%} of their size in float32, and need `pip install "
            "bitsandbytes`; all others are in float32."
        )
    if exported["format"] == "onnx":
        done.append("`model.onnx` has the weights in float32, for batches and texts of any size.")
    done.append("The results above are those of the model before; this is how far it moved:")
    return " ".join(done)


def _comparisons(exported: dict[str, Any]) -> str:
    lines = ["| before | after | largest difference of a logit | largest logit | metric before | after | on |"]
    lines.append("| --- |" + " --- |" * 6)
    for found in exported["comparisons"]:
        metric = [""] * 2
        if found["metric"]:
            metric = [f"{found['metric']} {found['metric_before']:.4f}", f"{found['metric_after']:.4f}"]
        values = [f"{found['largest_difference']:.1e}", f"{found['largest_logit']:.1f}", *metric, found["inputs"]]
        lines.append("| " + " | ".join([found["before"], found["after"], *values]) + " |")
    return "\n".join(lines) + "\n"
