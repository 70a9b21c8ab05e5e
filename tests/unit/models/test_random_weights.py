"""A known architecture without its pretraining."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from hfscale.models import load_text_classifier
from hfscale.models.heads import set_dropout
from hfscale.schemas import ClassifierModelSettings, LanguageModelSettings


def load(name: Path, seed: int, random_weights: bool = True) -> Any:
    settings = ClassifierModelSettings(name=str(name), random_weights=random_weights)
    return load_text_classifier(settings, "single_label_classification", ("a", "b"), seed)


def test_all_weights_are_new_and_follow_the_seed(tiny_model: Path) -> None:
    first, same, other = (load(tiny_model, seed).model.state_dict() for seed in (1, 1, 2))
    pretrained = load(tiny_model, 1, random_weights=False)
    for name, value in first.items():
        assert torch.equal(value, same[name]), name
        if value.dim() == 2 and name != "classifier.weight":
            assert not torch.equal(value, other[name]), name
            assert not torch.equal(value, pretrained.model.state_dict()[name]), name
    assert load(tiny_model, 1).tokenizer.get_vocab() == pretrained.tokenizer.get_vocab()


def test_it_is_said_and_not_warned_about(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load(tiny_model, 0)
    said = capsys.readouterr()
    assert "all drawn at random" in said.out and "of them new" not in said.out
    assert not said.err


def test_a_language_model_has_no_such_setting() -> None:
    """A new one is made by leaving its name out."""
    assert "random_weights" not in {field.name for field in dataclasses.fields(LanguageModelSettings)}


def test_dropout_as_asked_for(tiny_model: Path) -> None:
    settings = ClassifierModelSettings(name=str(tiny_model), dropout=0.25)
    config = load_text_classifier(settings, "single_label_classification", ("a", "b"), 0).model.config
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.25, 0.25)
    bert, none = transformers.BertConfig(), transformers.T5Config()
    assert set_dropout(bert, 0.25) and bert.classifier_dropout is None, "null follows the others"
    for name in [name for name in vars(none) if "dropout" in name]:
        delattr(none, name)
    assert not set_dropout(none, 0.25)
