"""A function in a process of its own, which can be ended at any moment.

The client uploads large files by threads that nothing can stop: who waits for them in one's own process waits until
they are through, also where a signal has said to stop, and then once more where the interpreter ends.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from hfscale.errors import HubError


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a module's `function` returns there. Whatever ends the wait for it here, or this process, ends it.

    Raises:
        HubError: where that process ended without an answer.
    """
    context = multiprocessing.get_context("spawn")  # threads and GPUs of this process don't survive a fork
    answers, answer = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(answer, function, arguments), name="hub", daemon=True)
    child.start()
    answer.close()  # so that its end is noticed here
    try:
        return answers.recv()
    except EOFError:
        child.join()
        raise HubError(f"the process that uploads has ended, with exit status {child.exitcode}") from None
    finally:
        answers.close()
        child.kill()
        child.join()


def _work(answer: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to both; who waits says that it stops
    threading.Thread(target=_end_with_parent, daemon=True).start()
    answer.send(function(*arguments))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
