"""Loading, checking and saving text classifiers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from hfscale.errors import ModelError
from hfscale.models import TextClassifier, load_text_classifier, save_text_classifier, saved_text_classifier
from hfscale.schemas import ModelSettings

SINGLE: Any = "single_label_classification"


def load(name: Path | str, labels: tuple[str, ...] = ("a", "b"), seed: int = 0, **changed: Any) -> TextClassifier:
    return load_text_classifier(ModelSettings(name=str(name), **changed), SINGLE, labels, seed)


def refusal(name: Path | str, **changed: Any) -> str:
    with pytest.raises(ModelError) as caught:
        load(name, **changed)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def copied(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that may be spoilt."""
    return Path(shutil.copytree(tiny_model, tmp_path / "copied"))


def head(classifier: TextClassifier) -> torch.Tensor:
    return classifier.model.classifier.weight.detach()


def test_the_head_fits_the_labels(tiny_model: Path) -> None:
    classifier = load(tiny_model, ("x", "y", "z"))
    config = classifier.model.config
    assert config.id2label == {0: "x", 1: "y", 2: "z"} and config.label2id == {"x": 0, "y": 1, "z": 2}
    assert config.problem_type == SINGLE
    assert head(classifier).shape == (3, 32)
    assert {parameter.dtype for parameter in classifier.model.parameters()} == {torch.float32}


def test_half_precision_weights_are_trained_in_float32(tiny_model: Path, tmp_path: Path) -> None:
    classifier = load(tiny_model)
    classifier.model.half()
    save_text_classifier(classifier, tmp_path / "half")
    assert next(load(tmp_path / "half").model.parameters()).dtype == torch.float32


def test_a_new_head_follows_the_seed(tiny_model: Path) -> None:
    first = load(tiny_model, seed=1)
    torch.rand(3)
    assert torch.equal(head(first), head(load(tiny_model, seed=1)))
    assert not torch.equal(head(first), head(load(tiny_model, seed=2)))


def test_the_encoder_is_the_pretrained_one(tiny_model: Path) -> None:
    one, other = (load(tiny_model, seed=seed).model.bert.state_dict() for seed in (1, 2))
    for name, value in one.items():
        if "pooler" not in name:
            assert torch.equal(value, other[name]), name


def test_what_is_new_is_said(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_text_classifier(load(tiny_model), tmp_path / "saved")
    assert "66 of them new (classifier.bias, classifier.weight)" in capsys.readouterr().out
    load(tmp_path / "saved")
    assert "of them new" not in capsys.readouterr().out


def test_a_head_of_another_size_is_replaced(tiny_model: Path, tmp_path: Path) -> None:
    save_text_classifier(load(tiny_model), tmp_path / "saved")
    assert head(load(tmp_path / "saved", ("a", "b", "c"))).shape == (3, 32)


@pytest.mark.parametrize("labels", [("x", "y"), ("b", "a")])
def test_a_head_for_other_labels_is_replaced(tiny_model: Path, tmp_path: Path, labels: tuple[str, ...]) -> None:
    old = load(tiny_model, seed=1)
    save_text_classifier(old, tmp_path / "saved")
    assert torch.equal(head(load(tmp_path / "saved", seed=2)), head(old))
    assert not torch.equal(head(load(tmp_path / "saved", labels, seed=2)), head(old))


def test_a_saved_classifier_comes_back_the_same(tiny_model: Path, tmp_path: Path) -> None:
    classifier = load(tiny_model)
    save_text_classifier(classifier, tmp_path / "saved")
    again = saved_text_classifier(tmp_path / "saved")
    assert not again.model.training
    assert again.model.config.id2label == {0: "a", 1: "b"}
    inputs = again.tokenizer("the film was good", return_tensors="pt")
    torch.testing.assert_close(again.model(**inputs).logits, classifier.model.eval()(**inputs).logits)
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_a_run_folder_stands_for_its_model(tiny_model: Path, tmp_path: Path) -> None:
    save_text_classifier(load(tiny_model, seed=1), tmp_path / "model")
    assert torch.equal(head(load(tmp_path)), head(load(tiny_model, seed=1)))


def test_a_model_without_safetensors_is_refused(copied: Path) -> None:
    weights = copied / "model.safetensors"
    torch.save({"anything": torch.zeros(1)}, copied / "pytorch_model.bin")
    weights.unlink()
    assert "no safetensors weights, and pickled ones are not loaded" in refusal(copied)


def test_a_tokenizer_bigger_than_the_model_is_refused(copied: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(copied)
    tokenizer.add_tokens(["unheard", "unseen"])
    tokenizer.save_pretrained(copied)
    message = refusal(copied)
    assert "the tokenizer has 27 tokens, the model 25" in message


def test_broken_weights_are_refused(copied: Path) -> None:
    (copied / "model.safetensors").write_bytes(b"not one")
    assert str(copied) in refusal(copied)


def test_a_folder_without_tokenizer_is_refused(copied: Path) -> None:
    for file in copied.glob("tokenizer*"):
        file.unlink()
    assert str(copied) in refusal(copied)


def test_a_broken_config_is_refused(copied: Path) -> None:
    (copied / "config.json").write_text("{")
    assert str(copied) in refusal(copied)


def test_an_unknown_architecture_is_refused(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "model_type": "perpetuum"}))
    assert "perpetuum" in refusal(copied)


@pytest.mark.parametrize(
    "name, changed, expected",
    [
        ("/nowhere/model", {}, "no such model folder: /nowhere/model"),
        ("./nowhere", {}, "no such model folder: ./nowhere"),
        ("builtin:nothing", {}, "no built-in model nothing"),
        ("builtin:minilm", {"revision": "main"}, "--model.revision has no effect on builtin:minilm"),
        ("no-such-owner-here/no-such-model", {}, "the Hub can't be reached and there is no cached copy"),
    ],
)
def test_what_cannot_be_had_is_refused(name: str, changed: dict[str, Any], expected: str) -> None:
    assert expected in refusal(name, **changed)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert "holds no model (no config.json)" in refusal(tmp_path)
    with pytest.raises(ModelError, match="holds no model"):
        saved_text_classifier(tmp_path)


def test_a_revision_of_a_folder_is_refused(tiny_model: Path) -> None:
    assert "--model.revision has no effect on a local folder" in refusal(tiny_model, revision="main")


@pytest.mark.parametrize(
    "wanted, limit, expected", [(None, 64, 64), (None, 16, 16), (40, 64, 40), (64, 10**30, 64), (None, 10**30, 64)]
)
def test_the_length_that_an_example_may_have(tiny_model: Path, wanted: int | None, limit: int, expected: int) -> None:
    classifier = load(tiny_model)
    classifier.tokenizer.model_max_length = limit
    assert classifier.max_length(wanted) == expected


def test_a_length_beyond_the_models_positions_is_refused(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match=r"--data\.max_length 65 is more than the model's 64 positions"):
        load(tiny_model).max_length(65)


def test_positions_of_roberta_start_behind_its_padding() -> None:
    from transformers import RobertaConfig, RobertaForSequenceClassification, RobertaTokenizer

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = RobertaConfig(vocab_size=20, max_position_embeddings=34, pad_token_id=1, **sizes)
    tokenizer = RobertaTokenizer(model_max_length=10**30)
    classifier = TextClassifier(RobertaForSequenceClassification(config).eval(), tokenizer)
    length = classifier.max_length(None)
    ids = torch.full((1, length), 5)
    assert classifier.model(input_ids=ids).logits.shape == (1, 2)
    with pytest.raises(ModelError):
        classifier.max_length(length + 1)
