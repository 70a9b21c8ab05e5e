"""A pruned model computes what the whole one does without the parts that went, and `from_pretrained` loads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageClassification, AutoModelForSequenceClassification

from hfscale.compression.pruning import (
    choose,
    magnitude_importance,
    num_kept,
    taylor_importance,
    without_units,
    zero_share,
    zero_smallest,
)
from hfscale.compression.pruning_units import find_units, refuse_unknown
from hfscale.errors import ModelError, SettingsError
from hfscale.models.cnn import CnnConfig, CnnForImageClassification
from hfscale.training import classification_loss

_SHAPE = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": 0}
_SHAPE |= {"intermediate_size": 64, "max_position_embeddings": 40, "num_labels": 3}
_GROUPS = {"head_dim": 8, "num_key_value_heads": 2}
ENCODERS = {
    **{kind: _SHAPE for kind in ("bert", "roberta", "xlm-roberta", "camembert", "mpnet")},
    "electra": _SHAPE | {"embedding_size": 16},
    "modernbert": _SHAPE | {"reference_compile": False, "cls_token_id": 1, "sep_token_id": 2},
    "distilbert": {"vocab_size": 50, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "num_labels": 3},
    "eurobert": _SHAPE | _GROUPS,
}
LOSS = classification_loss("single_label_classification")


def encoder(kind: str) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **ENCODERS[kind])
    model = AutoModelForSequenceClassification.from_config(config).eval()
    return with_large_weights(model)


def cnn() -> Any:
    torch.manual_seed(0)
    config = CnnConfig(image_size=[20, 18], conv_channels=[6, 8, 10], hidden_size=16, num_labels=3)
    return with_large_weights(CnnForImageClassification(config).eval())


def with_large_weights(model: Any) -> Any:
    """Biases and weights that matter, so that a part that is missed shows in the outputs."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name.lower():
                weight.add_(torch.randn_like(weight) * 0.1)
    return model


def inputs_of(model: Any, batch: int = 4) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    labels = torch.randint(3, (batch,))
    if model.config.model_type == "hfscale_cnn":
        return {"pixel_values": torch.randn(batch, 1, 20, 18), "labels": labels}
    ids = torch.randint(5, 50, (batch, 12))
    mask = torch.ones_like(ids)
    mask[0, 8:] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model(**{name: value for name, value in inputs.items() if name != "labels"}).logits


def mask_out(model: Any, units: Any, kept: Any) -> None:
    """Zero the columns that read the units which are not kept."""
    with torch.no_grad():
        for unit, stay in zip(units, kept, strict=True):
            weight = model.get_parameter(unit.reader.tensor)
            gone = torch.ones(unit.count(model.state_dict()), dtype=torch.bool)
            gone[stay] = False
            weight[:, gone.repeat_interleave(unit.reader.span)] = 0


@pytest.mark.parametrize("kind", [*ENCODERS, "cnn"])
def test_equals_the_whole_model_with_the_removed_parts_masked(kind: str, tmp_path: Path) -> None:
    model = cnn() if kind == "cnn" else encoder(kind)
    units, inputs = find_units(model), inputs_of(model)
    whole, size = logits(model, inputs), model.num_parameters()
    kept = choose(units, taylor_importance(model, units, [inputs], LOSS), 0.5)
    without_units(model, units, kept).save_pretrained(tmp_path)
    auto = AutoModelForImageClassification if kind == "cnn" else AutoModelForSequenceClassification
    loaded, info = auto.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert loaded.num_parameters() < size
    mask_out(model, units, kept)
    torch.testing.assert_close(logits(loaded, inputs), logits(model, inputs), atol=1e-5, rtol=0)
    assert (logits(model, inputs) - whole).abs().max() > 1e-3  # what was removed did something


def test_configs_say_what_is_left() -> None:
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    for model, expected in (
        (encoder("bert"), {"intermediate_size": 32, "num_attention_heads": 4}),
        (encoder("distilbert"), {"hidden_dim": 32, "n_heads": 4}),
        (encoder("eurobert"), {"intermediate_size": 32, **heads}),
        (cnn(), {"conv_channels": [3, 4, 5], "hidden_size": 16}),
    ):
        units = find_units(model)
        config = without_units(model, units, choose(units, magnitude_importance(model, units), 0.5)).config
        assert {name: getattr(config, name) for name in expected} == expected


def test_taylor_is_the_slope_of_a_gate_on_the_unit() -> None:
    """Beside a gate on each neuron's value, which is what the papers differentiate by."""
    model = encoder("bert")
    batches = [inputs_of(model), {**inputs_of(model), "labels": torch.tensor([2, 0, 1, 1])}]
    units = find_units(model)
    found = taylor_importance(model, units, batches, LOSS)
    expected = [torch.zeros(64), torch.zeros(64)]
    for inputs in batches:
        gates = [torch.ones(64, requires_grad=True) for _ in units]
        hooks = [
            layer.intermediate.register_forward_hook(lambda _m, _a, out, gate=gate: out * gate)
            for layer, gate in zip(model.bert.encoder.layer, gates, strict=True)
        ]
        loss, number = LOSS(model, inputs)
        for score, slope in zip(expected, torch.autograd.grad(loss / number, gates), strict=True):
            score += slope.abs()
        for hook in hooks:
            hook.remove()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


def test_magnitude_is_the_sum_of_the_weights_that_write_a_filter() -> None:
    model = cnn()
    found = magnitude_importance(model, find_units(model))[1]
    convolution = model.convolutions[1]
    torch.testing.assert_close(found[3], (convolution.weight[3].abs().sum() + convolution.bias[3].abs()).detach())


def test_the_most_important_stay_in_their_order() -> None:
    model = cnn()
    units = find_units(model)
    scores = [torch.tensor([1.0, 9, 2, 8, 3, 7]), torch.arange(8.0), -torch.arange(10.0)]
    kept = choose(units, scores, 0.5)
    assert [stay.tolist() for stay in kept] == [[1, 3, 5], [4, 5, 6, 7], [0, 1, 2, 3, 4]]
    with pytest.raises(SettingsError, match="takes out none of 6 filters"):
        choose(units, scores, 0.01)


def test_how_many_stay() -> None:
    assert [num_kept(1536, 0.5), num_kept(1536, 0.3), num_kept(12, 0.3), num_kept(64, 0.999), num_kept(4, 0.99)] == [
        *(768, 1072, 8, 8, 1),
    ]


@pytest.mark.parametrize("kind", ["bert", "cnn"])
@pytest.mark.parametrize("sparsity", [0.25, 0.9])
def test_magnitude_zeroes_the_share_that_was_asked_for(kind: str, sparsity: float) -> None:
    model = cnn() if kind == "cnn" else encoder("bert")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    zero_smallest(model, sparsity)
    after = model.state_dict()
    assert set(after) == set(before)
    assert zero_share(model) == pytest.approx(sparsity, abs=1e-3)
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed and not any("embeddings" in name or "classifier" in name for name in changed)
    gone = torch.cat([before[name][after[name] == 0].abs() for name in changed])
    left = torch.cat([after[name][after[name] != 0].abs() for name in changed])
    assert gone.max() <= left.min()


def test_other_architectures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"of type gpt2, which can't be pruned; those that can: bert, .*train_cnn.py"):
        refuse_unknown("gpt2", tmp_path)
