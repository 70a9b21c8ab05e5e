"""`hfscale push` as a user runs it, to a Hub of our own, and what it has to leave as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.commands import run
from tests.support.hub import TOKEN, LoopbackHub

SHORT = "import hfscale.hub.upload as upload, hfscale.cli; upload.WAITS = (0.1, 0.1); hfscale.cli.main()"


def push(hub: LoopbackHub, run_folder: Path, *words: Any, token: str | None = TOKEN) -> Any:
    """`hfscale push`, with tenths of seconds between its tries."""
    return run("-c", SHORT, "push", run_folder, *words, env=hub.environment(token, run_folder.parent / "cache"))


def pushed(hub: LoopbackHub, run_folder: Path, *words: Any) -> str:
    done = push(hub, run_folder, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def model_of(run_folder: Path) -> dict[str, bytes]:
    """Without the card, which goes up under the repository's name."""
    return {name: content for name, content in contents(run_folder / "model").items() if name != "README.md"}
