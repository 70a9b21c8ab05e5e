"""Scores learn by the straight-through gradient, and what stays is chosen by the step and the scores alone."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch

from hfscale.compression.movement import Movement, MovementPruning, sparsity_at
from hfscale.compression.pruning import zero_share
from tests.unit.compression.test_pruning import ENCODERS, encoder


def test_sparsity_rises_as_a_cube_between_two_plateaus() -> None:
    found = [sparsity_at(step, 100, 0.8) for step in range(100)]
    assert found[:11] == [0.0] * 11 and found[70:] == [0.8] * 30
    assert all(before < after for before, after in itertools.pairwise(found[10:71]))
    assert found[40] == pytest.approx(0.8 * (1 - 0.5**3))


def test_gradients_are_those_of_the_paper() -> None:
    """Of the weight through the mask, of the scores as if they were the mask: weight x gradient, wherever it is."""
    torch.manual_seed(0)
    weight, inputs, upstream = (torch.randn(shape) for shape in ((3, 4), (5, 4), (5, 3)))
    weight.requires_grad_()
    movement = Movement(weight.detach())
    with torch.no_grad():
        movement.scores.copy_(torch.arange(12.0).view(3, 4))
    movement.leave_out(0.5)
    assert movement.kept.flatten().tolist() == [0.0] * 6 + [1.0] * 6
    (inputs @ movement(weight).T * upstream).sum().backward()
    plain = upstream.T @ inputs
    assert weight.grad is not None and movement.scores.grad is not None
    torch.testing.assert_close(weight.grad, plain * movement.kept)
    torch.testing.assert_close(movement.scores.grad, plain * weight.detach())


def test_weights_that_grow_stay_and_those_that_shrink_go() -> None:
    """A large weight that training pulls towards zero goes before a small one that it pushes away."""
    layer = torch.tensor([[5.0, 0.1]], requires_grad=True)
    movement = Movement(layer.detach())
    optimizer = torch.optim.SGD([layer, *movement.parameters()], lr=0.1)
    for _ in range(3):
        ((movement(layer) - torch.tensor([[1.0, 1.0]])) ** 2).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    movement.leave_out(0.5)
    assert movement.kept.tolist() == [[0.0, 1.0]]


def test_scores_are_the_sum_of_weight_times_gradient_under_any_optimizer() -> None:
    model = encoder("bert")
    pruning = MovementPruning(model, 0.5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    pruning.learn_with(optimizer)
    layer = model.bert.encoder.layer[0].output.dense.parametrizations.weight
    wanted = torch.zeros_like(layer[0].scores)
    ids = torch.randint(3, 50, (2, 7), generator=torch.Generator().manual_seed(0))
    for rate in (0.1, 0.05):
        for group in optimizer.param_groups:
            group["lr"] = rate
        model(input_ids=ids, labels=torch.tensor([0, 1])).loss.backward()
        assert layer.original.grad is not None
        wanted -= rate * layer.original.grad * layer.original.detach()
        optimizer.step()
        optimizer.zero_grad()
    torch.testing.assert_close(layer[0].scores.detach(), wanted)
    assert wanted.abs().max() > 0
    assert layer[0].scores not in optimizer.state and layer.original in optimizer.state


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_finished_model_is_a_plain_one_with_zeros(kind: str) -> None:
    model = encoder(kind)
    before = copy.deepcopy(model.state_dict())
    pruning = MovementPruning(model, 0.75)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if name.endswith("scores"):
            parameter.data.normal_()
    ids = torch.randint(3, 50, (2, 7))
    pruning.leave_out(0.75)
    with torch.no_grad():
        during = model.eval()(input_ids=ids).logits
        pruning.finish()
        torch.testing.assert_close(model(input_ids=ids).logits, during)
    after = model.state_dict()
    assert after.keys() == before.keys() and zero_share(model) == pytest.approx(0.75, abs=1e-3)
    for name, value in after.items():
        assert torch.equal(value, before[name]) or torch.equal(value[value != 0], before[name][value != 0])
    assert not any(parameter.ndim > 1 and name.endswith("scores") for name, parameter in model.named_parameters())
