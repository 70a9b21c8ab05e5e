"""Labels for new texts, in the order they were given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hfscale.data.labels import SPAN, SPAN_OR_NONE
from hfscale.evaluation import predict_answers, predict_tags, predict_texts
from hfscale.evaluation.predict import _outputs
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


SENTENCES = [["the", "film"], ["bad"] * 30, ["a", "really", "good", "cast"], ["fine"]]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_tags_are_those_of_the_best_logits(tiny_model: Path, batch_size: int) -> None:
    names = ("B-A", "I-A", "O")
    model, tokenizer = classifier(tiny_model, "token_classification", *names)
    predictions = predict_tags(model, tokenizer, SENTENCES, 16, batch_size)
    assert [prediction["words"] for prediction in predictions] == SENTENCES
    for words, prediction in zip(SENTENCES, predictions, strict=True):
        expected = []
        for start in range(0, len(words), 14):  # the windows of a long sentence, without [CLS] and [SEP]
            inputs = tokenizer(words[start : start + 14], is_split_into_words=True, return_tensors="pt")
            expected += [names[number] for number in model(**inputs).logits[0, 1:-1].argmax(-1)]
        assert prediction["tags"] == expected


def test_what_is_kept_of_a_file_has_no_padding(tiny_model: Path) -> None:
    model, tokenizer = classifier(tiny_model, "token_classification", "B-A", "I-A", "O")
    windows = [{"input_ids": [2, *[5] * number, 3]} for number in (1, 40, 3)]
    task: Any = "token_classification"
    best = _outputs(model, tokenizer, task, windows, 3, lambda logits: logits.argmax(-1))
    assert [kept.shape for kept in best] == [(3,), (42,), (5,)]
    assert all(kept.base is None for kept in best), "a view would hold the whole batch"
    logits = _outputs(model, tokenizer, task, windows, 3)
    assert [kept.shape for kept in logits] == [(3, 3), (42, 3), (5, 3)]
    for numbers, values in zip(best, logits, strict=True):
        assert numbers.tolist() == values.argmax(-1).tolist()


@pytest.mark.parametrize("label", [SPAN, SPAN_OR_NONE])
def test_a_context_that_leaves_no_token_has_no_answer(tiny_model: Path, label: tuple[str, str]) -> None:
    model, tokenizer = classifier(tiny_model, "question_answering", *label)
    (prediction,) = predict_answers(model, tokenizer, [("what film", "\u200b")], 16, 2)
    assert (prediction["answer"], prediction["start"], prediction["score"]) == ("", -1, 0.0)
