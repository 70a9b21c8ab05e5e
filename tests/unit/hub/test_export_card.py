"""The card of an exported or pruned model tells what was done to it, once, and measures of it alone."""

from __future__ import annotations

from typing import Any

from hfscale.compression.pruning_card import pruned_card
from hfscale.hub import exported_card
from hfscale.hub.usage import plain_usage
from hfscale.schemas import ModelSettings
from tests.unit.hub.test_card import adapter_card, card, metadata

COMPARED = {
    "before": "float32", "after": "4 bits", "inputs": "10 rows", "largest_difference": 0.1, "largest_logit": 5.0,
    "metric": "accuracy", "metric_before": 0.9, "metric_after": 0.8,
}  # fmt: skip
LAYERS = {"layers": 3, "disk_bytes": 10, "float32_bytes": 80}
NOTHING: dict[str, Any] = {"merged_into": None, "bits": None, "format": "safetensors", "quantized_layers": None}
BITS: dict[str, Any] = NOTHING | {"bits": 4, "comparisons": [COMPARED], "quantized_layers": LAYERS}
MERGED: dict[str, Any] = NOTHING | {"merged_into": "org/bert", "comparisons": []}


def test_few_bits_are_told_once_and_old_results_are_not_claimed() -> None:
    text = exported_card(card("rows.csv"), BITS, "")
    told = metadata(text)
    assert (
        "4-bit" in told["tags"]
        and not told.keys() & {"model-index", "model_name"}
        and told["base_model_relation"] == "finetune"
    )
    assert (
        "held in 4 bits (nf4, double quantization), 12.5%" in text and "accuracy 0.9000 | accuracy 0.8000" not in text
    )
    assert "pip install transformers torch bitsandbytes" in text and "accuracy 0.9000 | 0.8000" in text
    again = exported_card(text, BITS, "")
    assert again.count("## Export") == 1 and metadata(again)["tags"] == told["tags"]


def test_bfloat16_needs_nothing_more() -> None:
    text = exported_card(card("rows.csv"), NOTHING | {"bits": 16, "comparisons": [COMPARED]}, "")
    assert "16-bit" in metadata(text)["tags"] and "All weights are held in bfloat16" in text
    assert "bitsandbytes" not in text and text.count("The results above are those of the model before") == 1


def test_onnx_is_used_by_other_lines() -> None:
    text = exported_card(card("rows.csv"), NOTHING | {"format": "onnx", "comparisons": [COMPARED]}, "run it so")
    told = metadata(text)
    assert told["library_name"] == "onnx" and not told.keys() & {"model-index", "model_name"}
    assert text.count("## Use") == 1 and "run it so" in text and "from transformers import" not in text


def test_few_bits_of_a_published_model_are_that_model_quantized() -> None:
    told = metadata(exported_card(card("rows.csv"), BITS, "", published="me/mails"))
    assert (told["base_model"], told["base_model_relation"]) == ("me/mails", "quantized")


def test_a_merged_adapter_is_a_plain_model() -> None:
    before = adapter_card(ModelSettings(name="org/bert"))
    text = exported_card(before, MERGED, plain_usage("single_label_classification"))
    told = metadata(text)
    assert told["library_name"] == "transformers" and told["base_model_relation"] == "finetune"
    assert told["model-index"] == metadata(before)["model-index"]
    assert "PeftModel" not in text and text.count("## Use") == 1 and "fine-tuned by an adapter, merged since" in text
    assert text.index("## Use") < text.index("## Results") < text.index("## Export")


def test_a_pruned_model_has_its_own_results() -> None:
    speed = {"latency_ms": 1.0, "examples_per_second": 1.0, "layers_ms": 1.0}
    both = {"before": 1, "after": 1}
    report: dict[str, Any] = {
        "method": "magnitude", "sparsity": 0.5, "share_of_zeros": {"before": 0.0, "after": 0.5}, "held_out": "test",
        "metrics": {"before": {"accuracy": 0.91}, "after": {"accuracy": 0.85}}, "num_parameters": both, "bytes": both,
        "speed": {"before": speed, "after": speed, "device": "cpu", "threads": 1, "batch": "8 texts",
                  "speed_up": {"latency": 1.0, "throughput": 1.0, "pruned_layers": 1.0}},
    }  # fmt: skip
    text = pruned_card(card("rows.csv"), report)
    told = metadata(text)
    assert "pruned" in told["tags"] and "sparsity 0.5" in text and "| accuracy (test) | 0.9100 | 0.8500 |" in text
    assert told["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.85
    again = pruned_card(text, {**report, "metrics": None})
    assert again.count("## Pruned\n") == again.count("## Pruned before\n") == 1
    assert not metadata(again).keys() & {"model-index", "model_name"}
    assert pruned_card("", report).startswith("---\ntags:\n- pruned\n---\n")
