"""The loss at the labelled positions, in pieces that fit into memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hfscale.models import targets
from hfscale.models.targets import linear_cross_entropy


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [0, 1, 16, 17, 100])
def test_sum_and_gradients_are_those_of_the_whole_logits(
    size: int, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "_CHUNK_ELEMENTS", 16 * 61)  # 16 rows at a time
    torch.manual_seed(0)
    layer, features = nn.Linear(32, 61, bias=bias), torch.randn(size, 32, requires_grad=True)
    wanted = torch.randint(0, 61, (size,))
    found = linear_cross_entropy(features, layer, wanted)
    leaves = [features, *layer.parameters()]
    gradients = torch.autograd.grad(found, leaves)
    expected = F.cross_entropy(layer(features), wanted, reduction="sum")
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-6)
    for gradient, other in zip(gradients, torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(gradient, other, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(linear_cross_entropy(features, layer, wanted), expected, atol=1e-4, rtol=1e-6)


def test_the_whole_logits_never_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    monkeypatch.setattr(targets, "_CHUNK_ELEMENTS", 32 * 500)
    sizes: list[int] = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            output = function(*args, **(kwargs or {}))
            sizes.append(output.numel() if isinstance(output, torch.Tensor) else 0)
            return output

    layer, features = nn.Linear(8, 500), torch.randn(300, 8, requires_grad=True)
    wanted = torch.randint(0, 500, (300,))
    with Sizes():
        linear_cross_entropy(features, layer, wanted).backward()
        with torch.no_grad():
            linear_cross_entropy(features, layer, wanted)
    assert max(sizes) < 300 * 500 / 4


def test_bfloat16_where_the_accelerator_asks_for_it() -> None:
    torch.manual_seed(0)
    layer, features = nn.Linear(32, 61), torch.randn(40, 32, requires_grad=True)
    wanted = torch.randint(0, 61, (40,))
    exact = linear_cross_entropy(features, layer, wanted)
    with torch.autocast("cpu", torch.bfloat16):
        found = linear_cross_entropy(features, layer, wanted)
    found.backward()
    assert layer.weight.grad is not None and layer.weight.grad.dtype == torch.float32
    assert 0 < abs(found.item() / exact.item() - 1) < 0.01


def test_many_chunks_in_bfloat16_are_summed_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "_CHUNK_ELEMENTS", 16 * 61)  # 16 rows at a time
    torch.manual_seed(0)
    layer, features = nn.Linear(32, 61, bias=False), torch.randn(4096, 32, requires_grad=True)
    wanted = torch.randint(0, 61, (4096,))
    exact = F.cross_entropy(layer(features), wanted, reduction="sum")
    with torch.autocast("cpu", torch.bfloat16):
        found = linear_cross_entropy(features, layer, wanted)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(exact.item(), rel=1e-3)
    for grad, other in zip(
        *(torch.autograd.grad(loss, (layer.weight, features)) for loss in (found, exact)), strict=True
    ):
        assert (grad - other).norm() < 0.01 * other.norm()
