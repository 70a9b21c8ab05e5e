"""A run that hangs says where, on every process, and ends, instead of burning its allocation."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Generator

_GRACE_SECONDS = 5.0  # the other processes find out at about the same time, and have stacks to show, too
_HELD_SECONDS = 15.0  # a thread of Python may not get its turn any more; the one of faulthandler needs none

_last = 0.0


def pet() -> None:
    """Something was finished: the time until the alarm starts anew."""
    global _last
    _last = time.monotonic()


@contextlib.contextmanager
def watching(stall_seconds: float | None) -> Generator[None]:
    """Print the stacks of all threads and end the process where nothing calls `pet` for so long; None watches nothing.

    The exit status is 1, not that of a run which saved: what hangs once may well hang again.
    """
    if stall_seconds is None:
        yield
        return
    pet()
    faulthandler.dump_traceback_later(stall_seconds + _HELD_SECONDS, exit=True)
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(stall_seconds, ended), name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()  # it must not arm the timer once more
        faulthandler.cancel_dump_traceback_later()


def _watch(stall_seconds: float, ended: threading.Event) -> None:
    period = min(1.0, stall_seconds / 4)
    while not ended.wait(period):
        left = stall_seconds - (time.monotonic() - _last)
        faulthandler.dump_traceback_later(max(left, 0) + _HELD_SECONDS, exit=True)
        if left < 0:
            rank = os.environ.get("RANK", "0")
            sys.stderr.write(
                f"error: [rank {rank}] no forward pass was finished in {stall_seconds:g} s (--train.stall_seconds); "
                "this is where the process stands:\n"
            )
            sys.stderr.flush()
            faulthandler.dump_traceback(all_threads=True)
            time.sleep(_GRACE_SECONDS)
            os._exit(1)
