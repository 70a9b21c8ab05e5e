"""Labels for new texts, in the order they were given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hfscale.evaluation import predict_texts
from hfscale.models import load_text_classifier
from hfscale.schemas import ModelSettings

TEXTS = [("bad",), ("a really good film with a great cast",), ("the plot was slow",), ("fine",)]


def classifier(folder: Path, task: Any, *labels: str) -> Any:
    model, tokenizer = load_text_classifier(ModelSettings(name=str(folder)), task, labels, seed=3)
    return model.eval(), tokenizer


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_one_label(tiny_model: Path, batch_size: int) -> None:
    model, tokenizer = classifier(tiny_model, "single_label_classification", "a", "b", "c")
    predictions = predict_texts(model, tokenizer, TEXTS, 64, batch_size)
    assert [p["text"] for p in predictions] == [text for (text,) in TEXTS]
    for (text,), prediction in zip(TEXTS, predictions, strict=True):
        logits = model(**tokenizer(text, return_tensors="pt")).logits[0]
        assert list(prediction["scores"]) == ["a", "b", "c"]
        assert list(prediction["scores"].values()) == pytest.approx(logits.softmax(-1).tolist(), abs=1e-5)
        assert prediction["label"] == "abc"[int(logits.argmax())]
        assert prediction["score"] == max(prediction["scores"].values())


def test_several_labels(tiny_model: Path) -> None:
    model, tokenizer = classifier(tiny_model, "multi_label_classification", "a", "b", "c")
    for prediction in predict_texts(model, tokenizer, TEXTS, 64, 2):
        assert prediction["labels"] == [name for name, score in prediction["scores"].items() if score > 0.5]


def test_a_number_of_a_pair(tiny_model: Path) -> None:
    model, tokenizer = classifier(tiny_model, "regression", "score")
    (prediction,) = predict_texts(model, tokenizer, [("good", "bad")], 64, 2)
    expected = model(**tokenizer("good", "bad", return_tensors="pt")).logits[0, 0].item()
    assert prediction == {"text": "good", "text_pair": "bad", "value": pytest.approx(expected, abs=1e-5)}


def test_no_texts(tiny_model: Path) -> None:
    model, tokenizer = classifier(tiny_model, "single_label_classification", "a", "b")
    assert predict_texts(model, tokenizer, [], 64, 2) == []
