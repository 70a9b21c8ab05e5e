"""Time in which processes exchange, and in which they only exchange."""

from types import SimpleNamespace
from typing import Any

import pytest
from torch.autograd import DeviceType  # pyright: ignore[reportPrivateImportUsage]

from hfscale.training.communication import communication_of


def event(name: str, start: float, end: float, is_async: bool = False, device: Any = DeviceType.CPU) -> Any:
    return SimpleNamespace(
        name=name, time_range=SimpleNamespace(start=start, end=end), is_async=is_async, device_type=device
    )


def test_on_a_cpu_the_exchanges_of_gloo_count() -> None:
    events = [event("aten::mm", 0, 4e6), event("gloo:all_reduce", 3e6, 6e6, True), event("aten::add", 5e6, 10e6)]
    assert communication_of(events) == pytest.approx((3.0, 1.0, 10.0))


def test_on_a_gpu_its_kernels_count() -> None:
    cuda = DeviceType.CUDA
    events = [
        event("aten::mm", 0, 10e6),
        event("gemm", 1e6, 3e6, device=cuda),
        event("ncclDevKernel_AllReduce", 2e6, 5e6, device=cuda),
    ]
    assert communication_of(events) == pytest.approx((3.0, 2.0, 10.0))


def test_overlapping_exchanges_count_once() -> None:
    events = [event("gloo:all_reduce", 0, 2e6, True), event("gloo:all_gather", 1e6, 3e6, True)]
    assert communication_of(events) == pytest.approx((3.0, 3.0, 3.0))
