"""Signals: at once where nothing would be lost, else at the next forward pass, and never twice by accident."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from hfscale import interruption
from hfscale.errors import Interrupted, one_line

ALONE: Any = SimpleNamespace(num_processes=1)


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    interruption.watch_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    interruption._asked = None


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_outside_of_training_it_ends_at_once(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, one_line():
        interruption.watch_signals()  # `one_line` sets SIGTERM, a recipe's start comes after it
        os.kill(os.getpid(), getattr(signal, name))
        time.sleep(1)
    assert caught.value.code == 75
    assert capsys.readouterr().err == f"stopped by {name}; the same command starts it again\n"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_in_training_it_waits_for_the_forward_pass(name: str) -> None:
    with pytest.raises(Interrupted, match=f"stopped by {name}"), interruption.deferred():
        interruption.check(ALONE)
        for _ in range(3 if name != "SIGINT" else 1):
            os.kill(os.getpid(), getattr(signal, name))
        assert interruption.asked() == name
        interruption.check(ALONE)
        pytest.fail("not stopped")


def test_a_second_ctrl_c_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt), interruption.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # the same press, passed on by a launcher
        assert interruption.asked() == "SIGINT"
        monkeypatch.setattr(interruption, "_ONE_PRESS_SECONDS", 0)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)


def test_no_library_swallows_it() -> None:
    with pytest.raises(Interrupted):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        except Exception:
            pytest.fail("swallowed")


def test_a_signal_after_the_last_check_stops_at_the_end() -> None:
    with pytest.raises(Interrupted, match="stopped by SIGTERM"), interruption.deferred():
        interruption.check(ALONE)
        os.kill(os.getpid(), signal.SIGTERM)


def test_the_first_ctrl_c_after_another_signal_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is saving by then."""
    monkeypatch.setattr(interruption, "_ONE_PRESS_SECONDS", 0)
    with pytest.raises(Interrupted), interruption.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
