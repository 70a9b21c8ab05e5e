"""Computing the last layer at the first token alone changes no logit and no gradient."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from hfscale.models.first_token import read_first_token_only

SMALL = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "electra"])
def test_same_logits_and_gradients(kind: str) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SMALL, num_labels=3)
    whole = AutoModelForSequenceClassification.from_config(config).eval()
    narrow = copy.deepcopy(whole)
    assert read_first_token_only(narrow)
    ids, mask = torch.randint(1, 60, (5, 12)), torch.ones(5, 12, dtype=torch.long)
    mask[0, 4:] = 0
    for model in (whole, narrow):
        torch.nn.functional.cross_entropy(
            model(input_ids=ids, attention_mask=mask).logits, torch.tensor([0, 1, 2, 1, 0])
        ).backward()
    logits = [model(input_ids=ids, attention_mask=mask).logits for model in (whole, narrow)]
    torch.testing.assert_close(*logits, atol=1e-6, rtol=0)
    for (name, one), (_, other) in zip(whole.named_parameters(), narrow.named_parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, atol=1e-6, rtol=0, msg=name)
    assert narrow.state_dict().keys() == whole.state_dict().keys()
    assert narrow.base_model(input_ids=ids, attention_mask=mask).last_hidden_state.shape[1] == 1


def test_other_models_are_left_alone() -> None:
    eager = AutoConfig.for_model("bert", **SMALL, attn_implementation="eager")
    decoder = AutoConfig.for_model(
        "gpt2", vocab_size=60, n_embd=32, n_layer=1, n_head=2, n_positions=40, pad_token_id=0
    )
    for config in (eager, decoder):
        assert not read_first_token_only(AutoModelForSequenceClassification.from_config(config))
