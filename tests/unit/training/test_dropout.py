"""The quick dropout is a dropout."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hfscale.training.dropout import LaneDropout, use_lane_dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_rate_scale_and_gradient(p: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(501, 403, requires_grad=True)
    y = LaneDropout(p)(x)
    y.sum().backward()
    y = y.detach()
    kept = y != 0
    assert float(kept.double().mean()) == pytest.approx(1 - p, abs=4e-3)
    assert float(y.double().mean()) == pytest.approx(1.0, abs=0.02)
    assert y[kept].unique().tolist() == pytest.approx([1 / (1 - p)], rel=1e-3)
    assert torch.equal(x.grad, y)
    rows, columns = kept.double().mean(1), kept.double().mean(0)
    assert max(rows.std(), columns.std()) < 0.03, "elements depend on each other"


def test_seed_eval_and_edges() -> None:
    x = torch.randn(7, 5)
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append(LaneDropout(0.3)(x))
    assert torch.equal(*draws)
    assert LaneDropout(0.3).eval()(x) is x
    assert LaneDropout(0.0)(x) is x
    assert not LaneDropout(1.0)(x).any()


def test_only_plain_dropout_is_replaced() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.2), nn.Sequential(nn.Dropout1d(0.1), nn.Dropout(0.0)))
    before = list(model.state_dict())
    use_lane_dropout(model)
    kinds = [type(module).__name__ for module in model.modules()]
    assert kinds == ["Sequential", "Linear", "LaneDropout", "Sequential", "Dropout1d", "LaneDropout"]
    assert list(model.state_dict()) == before
