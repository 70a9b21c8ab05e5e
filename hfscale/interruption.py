"""Being told to stop: by SIGTERM, SIGUSR1 or Ctrl-C, agreed over all processes, without a finished step lost.

Outside `deferred` a signal ends the process where it stands: before training, or after it, when all is on disk.
Inside, where a model is in training, the signal is only noted, and `check`, called after every forward pass, raises
`Interrupted` on all processes at the same place, so that they can save together.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Generator
from types import FrameType
from typing import TYPE_CHECKING, Any

from hfscale import watchdog
from hfscale.errors import Interrupted

if TYPE_CHECKING:
    from accelerate import Accelerator

_SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1")  # Slurm sends the first and, when told to, the last
_ONE_PRESS_SECONDS = 0.25  # a terminal and a launcher may both pass on the same Ctrl-C

_asked: str | None = None
_pressed_at: float | None = None  # when Ctrl-C came first
_deferred = False


def watch_signals() -> None:
    """From now on SIGTERM, SIGUSR1 and Ctrl-C mean: stop, with exit status 75. Only the main thread can do this."""
    global _asked, _pressed_at, _deferred
    _asked, _pressed_at, _deferred = None, None, False
    if threading.current_thread() is not threading.main_thread():
        return
    for name in _SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _note)


def _note(number: int, _frame: FrameType | None) -> None:
    """Signals may come twice, from Slurm and from a launcher; only a second Ctrl-C means more than the first."""
    global _asked, _pressed_at
    name, now = signal.Signals(number).name, time.monotonic()
    if name == "SIGINT" and _pressed_at is not None and now - _pressed_at > _ONE_PRESS_SECONDS:
        raise KeyboardInterrupt
    if name == "SIGINT" and _pressed_at is None:
        _pressed_at = now
    if _asked is not None:
        return
    _asked = name
    if not _deferred:
        raise Interrupted(f"stopped by {name}; the same command starts it again")
    more = " (Ctrl-C once more stops at once)" if name == "SIGINT" else ""
    sys.stderr.write(f"{name}: stopping after this forward pass, then saving{more}\n")


def asked() -> str | None:
    """Name of the signal that told this process to stop, if any."""
    return _asked


@contextlib.contextmanager
def deferred() -> Generator[None]:
    """In here a signal waits for the next `check`, at the latest for the end.

    Raises:
        Interrupted: at the end, where a signal came after the last `check`.
    """
    global _deferred
    _deferred = True
    try:
        yield
    finally:
        _deferred = False
    if _asked is not None:
        raise Interrupted(f"stopped by {_asked}; the same command goes on")


def check(accelerator: Accelerator) -> None:
    """A forward pass is done: tell the watchdog, and stop here if any process was told to.

    All processes have to call it equally often: they agree in an exchange of one number.

    Raises:
        Interrupted: inside `deferred`, on every process.
    """
    watchdog.pet()
    if _deferred and _anywhere(accelerator):
        raise Interrupted(f"stopped by {_asked or 'a signal to another process'}")


def _anywhere(accelerator: Accelerator) -> bool:
    if accelerator.num_processes == 1:
        return _asked is not None
    import torch

    told: Any = torch.tensor(float(_asked is not None), device=accelerator.device)
    return bool(accelerator.reduce(told, reduction="sum") > 0)  # type: ignore[operator]
