"""ONNX files beside the models they were made from, and beside the wrong ones."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from hfscale.compression.kinds import SavedModel
from hfscale.models import RnnConfig, RnnForSequenceClassification

pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")
from hfscale.compression.onnx_graph import write_onnx
from hfscale.compression.onnx_session import OnnxModel
from hfscale.hub import onnx_usage
from tests.support.snippets import printed_by


def padded_ids(rows: int, width: int, vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, with padding on either side and a text without words where there is room."""
    ids = torch.randint(1, vocabulary, (rows, width))
    mask = torch.ones_like(ids)
    if rows > 3:
        mask[0, width // 2 :], mask[1, : width // 3], mask[2] = 0, 0, 0
    return ids, mask


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_recurrent_network_at_any_size(cell: str, bidirectional: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = RnnConfig(50, cell, 8, 12, num_hidden_layers=2, bidirectional=bidirectional, num_labels=3)
    model = RnnForSequenceClassification(config).eval()
    for weight in model.parameters():
        weight.data += 0.2 * torch.randn_like(weight)  # biases of 0 would hide in which order they stand
    write_onnx(SavedModel(tmp_path, config, "single_label_classification", {}), model, None, tmp_path)
    exported = OnnxModel(tmp_path)
    for rows, width in ((1, 1), (5, 12), (2, 1)):
        ids, mask = padded_ids(rows, width, 50)
        with torch.no_grad():
            wanted = model(ids, mask).logits
        found = exported(input_ids=ids, attention_mask=mask, token_type_ids=torch.zeros_like(ids)).logits
        torch.testing.assert_close(found, wanted, atol=2e-6, rtol=0)


def test_a_bert_reads_all_its_inputs(tiny_model: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model: Any = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=3).eval()
    saved = SavedModel(tiny_model, AutoConfig.from_pretrained(tiny_model), "single_label_classification", {})
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    write_onnx(saved, model, tokenizer, tmp_path)
    ids, mask = padded_ids(4, 20, model.config.vocab_size)
    mask[2, 0] = 1
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": (ids > 9).long()}
    found = OnnxModel(tmp_path)(**inputs).logits
    with torch.no_grad():
        torch.testing.assert_close(found, model(**inputs).logits, atol=2e-6, rtol=0)
        for name in ("attention_mask", "token_type_ids"):  # or the comparison says nothing about it
            assert (model(**inputs | {name: torch.ones_like(ids)}).logits - found).abs().max() > 1e-4
    assert str(Path.cwd()).encode() not in (tmp_path / "model.onnx").read_bytes()
    model.config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with torch.no_grad():
        logits = model(**tokenizer("a bad film", return_tensors="pt")).logits[0]
    put = {"PATH_OR_HUB_ID": str(tmp_path), "your text": "a bad film"}
    assert printed_by(onnx_usage("single_label_classification"), **put) == f"LABEL_{logits.argmax()}"
    several = [f"LABEL_{number}" for number, logit in enumerate(logits) if logit > 0]
    assert ast.literal_eval(printed_by(onnx_usage("multi_label_classification"), **put)) == several
    assert float(printed_by(onnx_usage("regression"), **put)) == pytest.approx(float(logits[0]), abs=1e-5)
