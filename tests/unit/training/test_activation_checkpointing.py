"""Less is kept for the backward pass, and the same comes out."""

from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from hfscale.errors import SettingsError
from hfscale.training.activation_checkpointing import checkpoint_activations


def step(checkpointing: bool) -> tuple[float, int, dict[str, Any]]:
    """(loss, bytes that the forward pass keeps, gradients), with dropout."""
    torch.manual_seed(0)
    shape = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    model = BertForSequenceClassification(BertConfig(**shape, intermediate_size=64)).train()
    if checkpointing:
        checkpoint_activations(model)
    kept: dict[int, int] = {}

    def keep(tensor: Any) -> Any:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(input_ids=torch.randint(5, 50, (16, 32)), labels=torch.zeros(16, dtype=torch.int64)).loss
    loss.backward()
    return loss.item(), sum(kept.values()), {name: weight.grad for name, weight in model.named_parameters()}


def test_the_same_bits_from_less_memory() -> None:
    (loss, whole, grads), (again, less, same) = step(False), step(True)
    assert again == loss and less < 0.5 * whole
    for name, grad in grads.items():
        assert torch.equal(grad, same[name]), name


def test_a_model_that_keeps_all_is_named() -> None:
    with pytest.raises(SettingsError, match=r"--train\.activation_checkpointing has no effect: Linear"):
        checkpoint_activations(torch.nn.Linear(2, 2))
