"""Time in which processes exchange, and in which they only exchange."""

import pytest

from hfscale.training.communication import Event, communication_of


def event(name: str, start: float, end: float, is_async: bool = False, on_gpu: bool = False) -> Event:
    return Event(name, int(start * 1e9), int(end * 1e9), on_gpu, is_async)


def test_on_a_cpu_the_exchanges_of_gloo_count() -> None:
    events = [event("aten::mm", 0, 4), event("gloo:all_reduce", 3, 6, True), event("aten::add", 5, 10)]
    assert communication_of(events) == pytest.approx((3.0, 1.0, 10.0))


def test_on_a_gpu_its_kernels_count() -> None:
    events = [
        event("aten::mm", 0, 10),
        event("gemm", 1, 3, on_gpu=True),
        event("ncclDevKernel_AllReduce", 2, 5, on_gpu=True),
    ]
    assert communication_of(events) == pytest.approx((3.0, 2.0, 10.0))


def test_overlapping_exchanges_count_once() -> None:
    events = [event("gloo:all_reduce", 0, 2, True), event("gloo:all_gather", 1, 3, True)]
    assert communication_of(events) == pytest.approx((3.0, 3.0, 3.0))
