"""A function in a process of its own, which can be ended at any moment.

The client uploads large files by threads that nothing can stop: who waits for them in one's own process waits until
they are through, also where a signal has said to stop, and then once more where the interpreter ends.

`multiprocessing` would run the caller's script again in the new process, as it lies on the disk by then.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from hfscale.errors import HubError

_CODE = "from hfscale.hub.child import main; main()"


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a module's `function` returns there. Whatever ends the wait for it here, or this process, ends it.

    Raises:
        HubError: where that process ended without an answer.
    """
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # In a session of its own: Ctrl-C is for who waits. Without the working folder as a place to import from (-P).
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", _CODE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ,
        start_new_session=True,
    )
    assert child.stdin and child.stdout
    try:
        pickle.dump((function, arguments), child.stdin)
        child.stdin.flush()
        return pickle.load(child.stdout)
    except (EOFError, BrokenPipeError, pickle.UnpicklingError):
        raise HubError(f"the process that uploads has ended, with exit status {child.wait()}") from None
    finally:
        child.kill()
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
        child.stdout.close()
        child.wait()


def main() -> None:
    """The other process: a call comes by stdin, which stays open as long as somebody waits for the answer."""
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)  # what is printed must not get into the answer
        function, arguments = pickle.load(sys.stdin.buffer)
        threading.Thread(target=_end_with_parent, daemon=True).start()
        pickle.dump(function(*arguments), answer)


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(1)
