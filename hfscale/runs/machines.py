"""On what the earlier starts of a run trained, so that its card doesn't tell the last one's machine as that of all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_OF_A_CPU = ("cpu_cores", "threads_per_process")
_HARDWARE = ("device", "num_processes", "precision", "power_limit_watts", *_OF_A_CPU)


def with_earlier(environment: dict[str, Any], origin: Path) -> dict[str, Any]:
    """The environment of a start that goes on with the run in `origin`, other machines in `earlier`, oldest first.

    A machine is what a card tells of it: so many processes on such a device.
    """
    try:
        before = json.loads((origin / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return environment
    machines = [*before.get("earlier", []), {name: before.get(name) for name in _HARDWARE}]
    others = {_told(each): each for each in machines}
    others.pop(_told(environment), None)
    return {**environment, "earlier": list(others.values())} if others else environment


def _told(machine: dict[str, Any]) -> tuple[Any, ...]:
    names = ("device", "num_processes", "precision")
    return tuple(machine.get(name) for name in (*names, *(_OF_A_CPU if machine.get("device") == "cpu" else ())))
