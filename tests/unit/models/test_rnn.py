"""The recurrent classifier: padding changes nothing, and what is saved comes back, here and without hfscale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from hfscale.models import (
    RnnConfig,
    RnnForSequenceClassification,
    load_text_classifier,
    new_rnn_classifier,
    save_text_classifier,
    saved_text_classifier,
)
from hfscale.schemas import ModelSettings, RnnSettings
from hfscale.training.throughput import flops_of
from tests.support.commands import run

SHAPES = [
    {"cell": "lstm"},
    {"cell": "gru"},
    {"cell": "lstm", "bidirectional": False},
    {"cell": "gru", "num_hidden_layers": 2},
]


def build(**changed: Any) -> RnnForSequenceClassification:
    torch.manual_seed(0)
    sizes = {"vocab_size": 25, "embedding_size": 12, "hidden_size": 8, **changed}
    return RnnForSequenceClassification(RnnConfig(**sizes)).eval()


def small(tokenizer: Any, task: Any = "single_label_classification", seed: int = 0) -> Any:
    settings = RnnSettings(embedding_size=12, hidden_size=8)
    return new_rnn_classifier(settings, tokenizer, task, ("a", "b", "c"), seed)


def padded(texts: list[list[int]], side: str) -> dict[str, torch.Tensor]:
    width = max(map(len, texts)) + 2
    ids, mask = torch.zeros(len(texts), width, dtype=torch.long), torch.zeros(len(texts), width, dtype=torch.long)
    for row, text in enumerate(texts):
        start = 0 if side == "right" else width - len(text)
        ids[row, start : start + len(text)] = torch.tensor(text)
        mask[row, start : start + len(text)] = 1
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_changes_nothing(shape: dict[str, Any], side: str) -> None:
    model = build(**shape)
    texts = [[5, 6, 7], [9], [3, 4, 5, 6, 7, 8, 9, 10]]
    together = model(**padded(texts, side)).logits
    for text, logits in zip(texts, together, strict=True):
        alone = model(input_ids=torch.tensor([text])).logits[0]
        torch.testing.assert_close(logits, alone, atol=1e-6, rtol=0)
    assert not torch.allclose(together[0], together[1], atol=1e-4)


def test_a_text_without_tokens_has_logits() -> None:
    model = build()
    inputs = {"input_ids": torch.zeros(2, 3, dtype=torch.long), "attention_mask": torch.tensor([[0, 0, 0], [1, 1, 0]])}
    logits = model(**inputs).logits
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits[0], model(input_ids=torch.tensor([[0]])).logits[0])


def test_the_pooled_states_are_torchs_own() -> None:
    """Against the layer run on one text, without packing."""
    model = build()
    ids = torch.tensor([[5, 6, 7, 8]])
    states, _ = model.rnn.recurrent(model.rnn.embedding(ids))
    expected = torch.cat([states.mean(1), states.amax(1)], dim=-1)
    torch.testing.assert_close(model.rnn(ids, torch.ones_like(ids)), expected)


def test_word_order_matters() -> None:
    model = build()
    assert not torch.allclose(model(torch.tensor([[5, 6, 7]])).logits, model(torch.tensor([[7, 6, 5]])).logits)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_weights_at_the_start(cell: str) -> None:
    model = build(cell=cell)
    for gate in model.rnn.recurrent.weight_hh_l0.split(8):
        torch.testing.assert_close(gate @ gate.T, torch.eye(8), atol=1e-5, rtol=0)
    forget = model.rnn.recurrent.bias_ih_l0.split(8)[1]
    assert torch.equal(forget, torch.full((8,), 1.0 if cell == "lstm" else 0.0))


@pytest.mark.parametrize(
    "problem_type, labels, loss",
    [
        ("single_label_classification", torch.tensor([1, 0]), F.cross_entropy),
        ("multi_label_classification", torch.tensor([[1.0, 0.0], [1.0, 1.0]]), F.binary_cross_entropy_with_logits),
        ("regression", torch.tensor([0.5, 2.0]), lambda logits, labels: F.mse_loss(logits[:, 0], labels)),
    ],
)
def test_the_loss_of_each_problem_type(problem_type: str, labels: torch.Tensor, loss: Any) -> None:
    model = build(problem_type=problem_type, num_labels=1 if problem_type == "regression" else 2)
    output = model(torch.tensor([[5, 6], [7, 8]]), token_type_ids=torch.zeros(2, 2), labels=labels)
    torch.testing.assert_close(output.loss, loss(output.logits, labels))
    output.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_seed_draws_the_weights(tiny_tokenizer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    first, same, other = (small(tiny_tokenizer, seed=seed).model.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(value, same[name]) for name, value in first.items())
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])
    assert "bidirectional LSTM" in capsys.readouterr().out


def test_a_saved_one_comes_back(tiny_tokenizer: Any, tmp_path: Path) -> None:
    classifier = small(tiny_tokenizer)
    save_text_classifier(classifier, tmp_path / "saved")
    inputs = tiny_tokenizer(["the film was good", "bad"], padding=True, return_tensors="pt")
    again = saved_text_classifier(tmp_path / "saved")
    assert again.model.config.id2label == {0: "a", 1: "b", 2: "c"}
    torch.testing.assert_close(again.model(**inputs).logits, classifier.model.eval()(**inputs).logits)


def test_another_task_keeps_the_encoder(tiny_tokenizer: Any, tmp_path: Path) -> None:
    first = small(tiny_tokenizer, seed=1)
    save_text_classifier(first, tmp_path / "saved")
    settings = ModelSettings(name=str(tmp_path / "saved"))
    second = load_text_classifier(settings, "single_label_classification", ("x", "y"), 2)
    assert second.model.classifier.weight.shape == (2, 32)
    for name, value in first.model.rnn.state_dict().items():
        assert torch.equal(value, second.model.rnn.state_dict()[name]), name


_WITHOUT_HFSCALE = """
import json, sys
sys.modules["hfscale"] = None  # importing it fails
from transformers import pipeline
classify = pipeline("text-classification", sys.argv[1], trust_remote_code=True, top_k=None)
print(json.dumps({row["label"]: row["score"] for row in classify(["the film was good"])[0]}))
"""


def test_the_folder_loads_where_hfscale_is_not_installed(tiny_tokenizer: Any, tmp_path: Path) -> None:
    classifier = small(tiny_tokenizer)
    save_text_classifier(classifier, tmp_path / "saved")
    finished = run("-c", _WITHOUT_HFSCALE, tmp_path / "saved", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    scores = json.loads(finished.stdout.splitlines()[-1])
    inputs = tiny_tokenizer("the film was good", return_tensors="pt")
    expected = classifier.model.eval()(**inputs).logits.softmax(-1)[0].tolist()
    assert [scores[name] for name in "abc"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_work_of_recurrent_layers_is_counted(cell: str) -> None:
    model = build(cell=cell)
    with torch.no_grad():
        counted = flops_of(lambda: model(torch.ones(1, 20, dtype=torch.long)))
    recurrent = sum(weight.numel() for name, weight in model.named_parameters() if "recurrent.weight" in name)
    assert counted == 2 * (20 * recurrent + model.classifier.weight.numel())


@pytest.mark.parametrize("changed", [{"hidden_size": 0}, {"num_layers": 0}, {"embedding_size": -1}, {"dropout": 1.0}])
def test_shapes_that_cannot_be(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"--model.{next(iter(changed))}"):
        RnnSettings(**changed)


def test_a_copy_that_came_with_weights_takes_no_ones_place(tiny_tokenizer: Any, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForSequenceClassification
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    save_text_classifier(small(tiny_tokenizer), tmp_path / "saved")
    copied = get_class_from_dynamic_module("rnn.RnnConfig", str(tmp_path / "saved"))
    assert copied is not RnnConfig
    assert type(AutoConfig.for_model("hfscale_rnn")) is RnnConfig
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert type(model) is RnnForSequenceClassification
