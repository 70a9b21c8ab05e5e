"""A process that hangs shows where, and ends."""

from __future__ import annotations

import textwrap

import pytest

from tests.support.commands import run

HANGS = {
    "in Python": "time.sleep(60)",
    # One byte from a socket that nobody writes to, holding Python's lock: no other thread of Python runs any more.
    "in C": "import ctypes, socket; a, b = socket.socketpair(); "
    "ctypes.PyDLL(None).read(a.fileno(), ctypes.create_string_buffer(1), 1)",
}


@pytest.mark.parametrize("kind", list(HANGS))
def test_stacks_and_an_end(kind: str) -> None:
    code = f"""
        import time
        from hfscale import watchdog
        watchdog._GRACE_SECONDS = watchdog._HELD_SECONDS = 0.5
        def where_it_hangs():
            {HANGS[kind]}
        with watchdog.watching(1.0):
            where_it_hangs()
    """
    finished = run("-c", textwrap.dedent(code), timeout=30)
    assert finished.returncode == 1
    assert "where_it_hangs" in finished.stderr
    if kind == "in Python":
        assert "no forward pass was finished in 1 s (--train.stall_seconds)" in finished.stderr


def test_what_goes_on_is_left_alone() -> None:
    code = """
        import time
        from hfscale import watchdog
        with watchdog.watching(2.0):
            for _ in range(15):
                time.sleep(0.2)
                watchdog.pet()
        with watchdog.watching(None):
            time.sleep(1.0)
        print("done")
    """
    finished = run("-c", textwrap.dedent(code), timeout=30)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "done\n", "")
