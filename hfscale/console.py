"""What a person sees while a run goes on: lines from the first process only, above a progress bar if there is one."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def is_main_process() -> bool:
    """True on the process that speaks for the run."""
    return os.environ.get("RANK", "0") == "0"


def is_terminal() -> bool:
    """True where progress bars make sense; logs get plain lines instead."""
    return sys.stderr.isatty()


def say(line: str, stream: TextIO | None = None) -> None:
    """Print a line on the first process, by default to stdout, without tearing a progress bar."""
    out = stream or sys.stdout
    if not is_main_process():
        return
    if is_terminal():
        from tqdm import tqdm

        tqdm.write(line, file=out)
    else:
        out.write(line + "\n")
        out.flush()


def warn(line: str) -> None:
    """Print a warning on the first process, to stderr: it must not end up in a command's output."""
    say(f"warning: {line}", sys.stderr)
