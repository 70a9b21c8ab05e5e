"""Running the project's commands as a user does: in a child process, reading its files and exit status."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FINETUNE_BERT = ROOT / "recipes" / "finetune_bert.py"
DDP = ("--config_file", str(ROOT / "accelerate_configs" / "ddp.yaml"))


def run(*words: Any, cwd: Path | None = None, env: dict[str, str] | None = None, timeout: float = 240) -> Any:
    """Run this Python with the given words; the result has `returncode`, `stdout` and `stderr`."""
    command = [sys.executable, *map(str, words)]
    environ = {**os.environ, **(env or {})}
    return subprocess.run(command, cwd=cwd or ROOT, env=environ, capture_output=True, text=True, timeout=timeout)


def launch(launcher: tuple[Any, ...], *words: Any, **options: Any) -> Any:
    """`accelerate launch LAUNCHER... WORDS...`"""
    return run("-m", "accelerate.commands.launch", *launcher, *words, **options)


def free_port() -> int:
    """Where the processes of a launch can meet, whatever else is launched on this machine."""
    with socket.socket() as found:
        found.bind(("", 0))
        return found.getsockname()[1]


def records(run_folder: Path) -> list[dict[str, Any]]:
    """The objects of `metrics.jsonl`."""
    return [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]


def result(run_folder: Path) -> dict[str, Any]:
    """The object of `result.json`."""
    return json.loads((run_folder / "result.json").read_text())


def assert_one_line(finished: Any, *parts: str) -> None:
    """A user's mistake: exit status 2, no traceback, and one line on stderr that holds all the parts."""
    lines = [line for line in finished.stderr.splitlines() if line.strip()]
    assert finished.returncode == 2, finished.stdout + finished.stderr
    assert len(lines) == 1, finished.stderr
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0], lines[0]
