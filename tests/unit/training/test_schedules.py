"""The learning rate at the edges of a run."""

from __future__ import annotations

from typing import Any

import pytest

from hfscale.schemas import OptimSettings
from hfscale.training import learning_rate
from hfscale.training.schedules import warmup_steps


def rate(step: int, total: int = 100, **given: Any) -> float:
    return learning_rate(step, total, OptimSettings(**{"lr": 2.0, "warmup_steps": 10, **given}))


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_warm_up_rises_linearly_to_the_peak(schedule: str) -> None:
    assert [rate(step, schedule=schedule) for step in (0, 4, 9, 10)] == pytest.approx([0.2, 1.0, 2.0, 2.0])


@pytest.mark.parametrize(
    "schedule, at",
    [
        ("constant", {10: 2.0, 55: 2.0, 99: 2.0, 100: 2.0}),
        ("linear", {10: 2.0, 55: 1.0, 99: 2.0 / 90, 100: 0.0, 150: 0.0}),
        ("cosine", {10: 2.0, 40: 1.5, 55: 1.0, 70: 0.5, 100: 0.0, 150: 0.0}),
    ],
)
def test_the_shape_after_warm_up(schedule: str, at: dict[int, float]) -> None:
    for step, expected in at.items():
        assert rate(step, schedule=schedule) == pytest.approx(expected, abs=1e-12), step


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_no_step_of_a_run_is_wasted_on_a_rate_of_zero(schedule: str) -> None:
    for warmup in (0, 0.06, 1, 10, 100):
        assert min(rate(step, schedule=schedule, warmup_steps=warmup) for step in range(100)) > 0


def test_no_warm_up_starts_at_the_peak() -> None:
    assert rate(0, warmup_steps=0) == 2.0


def test_a_run_of_one_step() -> None:
    for schedule in ("constant", "linear", "cosine"):
        for warmup in (0, 0.5, 1):
            assert rate(0, 1, schedule=schedule, warmup_steps=warmup) == 2.0


def test_a_warm_up_longer_than_the_run_never_reaches_the_peak() -> None:
    assert rate(4, 5, warmup_steps=10) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "given, total, steps", [(0, 50, 0), (0.1, 50, 5), (0.06, 10, 1), (0.5, 3, 2), (1, 50, 1), (7, 5, 7)]
)
def test_a_fraction_below_one_is_of_the_run(given: float, total: int, steps: int) -> None:
    assert warmup_steps(OptimSettings(warmup_steps=given), total) == steps
