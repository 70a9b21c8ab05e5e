"""What a card says of networks with their own code: with hfscale, nothing of the folder has to be run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from hfscale.hub.card import own_code_note
from hfscale.models.cnn import CnnConfig, CnnForImageClassification, CnnImageProcessor
from hfscale.models.rnn import RnnConfig, RnnForSequenceClassification


@pytest.mark.parametrize("module", ["cnn", "rnn"])
def test_the_auto_classes_take_our_code(tmp_path: Path, module: str, tiny_tokenizer: Any) -> None:
    names: dict[str, Any] = {"id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}}
    if module == "cnn":
        model: Any = CnnForImageClassification(CnnConfig(image_size=8, conv_channels=[4], hidden_size=4, **names))
        prepare: Any = CnnImageProcessor({"height": 8, "width": 8})
        classes, ours = (AutoModelForImageClassification, AutoImageProcessor), CnnImageProcessor
    else:
        model = RnnForSequenceClassification(RnnConfig(vocab_size=30, embedding_size=4, hidden_size=4, **names))
        prepare, ours = tiny_tokenizer, type(tiny_tokenizer)
        classes = (AutoModelForSequenceClassification, AutoTokenizer)
    model.save_pretrained(tmp_path)
    prepare.save_pretrained(tmp_path)
    assert (tmp_path / f"{module}.py").is_file()
    (tmp_path / f"{module}.py").write_text("raise AssertionError('the code of the folder was run')")
    loaded = [each.from_pretrained(tmp_path) for each in classes]
    assert type(loaded[0]) is type(model) and isinstance(loaded[1], ours)
    assert all(f"`{each.__name__}`" in own_code_note(module) for each in classes)
    assert f"`import hfscale.models.{module}`" in own_code_note(module)
