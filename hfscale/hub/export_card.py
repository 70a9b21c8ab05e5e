"""The model card of an exported model: that of the model it was made from, with what was done and what it changed."""

from __future__ import annotations

import re
from typing import Any

import yaml

_FRONT = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
_USE = re.compile(r"^## Use\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)


def exported_card(text: str, exported: dict[str, Any], usage: str) -> str:
    """Text of the `README.md` beside exported weights.

    Args:
        text: the card of the model before.
        exported: what stands in `export.json`.
        usage: lines that use the model, where those of before no longer do: it was an adapter, or has become ONNX.
    """
    front = _FRONT.match(text)
    metadata = (yaml.safe_load(front[1]) if front else None) or {}
    body = text[front.end() :] if front else text
    is_onnx = exported["format"] == "onnx"
    metadata["library_name"] = "onnx" if is_onnx else "transformers"
    if exported["merged_into"] or is_onnx:
        body = _USE.sub("", body)
        body = f"{body.rstrip()}\n\n## Use\n\n{usage}"
    section = f"## Export\n\n{_what(exported)}\n\n{_comparisons(exported)}"
    return f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n{body.rstrip()}\n\n{section}"


def _what(exported: dict[str, Any]) -> str:
    done = []
    if exported["merged_into"]:
        done.append(f"The adapter was merged into {exported['merged_into']}, in float32.")
    if exported["bits"] == 16:
        done.append("All weights are held in bfloat16. The results above are those of the model before.")
    elif exported["bits"]:
        kind = "LLM.int8" if exported["bits"] == 8 else "nf4, double quantization"
        layers = exported["quantized_layers"]
        done.append(
            f"The weights of {layers['layers']} linear layers are held in {exported['bits']} bits ({kind}), "
            f"{layers['disk_bytes'] / layers['float32_bytes']:.1%} of their size in float32, and need `pip install "
            "bitsandbytes`; all others are in float32. The results above are those of the model before."
        )
    if exported["format"] == "onnx":
        done.append("`model.onnx` has the weights in float32, for batches and texts of any size.")
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
