"""On what the earlier starts of a run trained, so that its card doesn't tell the last one's machine as that of all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_HARDWARE = ("device", "num_processes", "cpu_cores", "threads_per_process", "precision", "power_limit_watts")


def with_earlier(environment: dict[str, Any], origin: Path) -> dict[str, Any]:
    """The environment of a start that goes on with the run in `origin`, other machines in `earlier`, oldest first.

    A machine is what a card tells of it: so many processes on such a device.
    """
    try:
        before = json.loads((origin / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return environment
    machines = [*before.get("earlier", []), {name: before.get(name) for name in _HARDWARE}]
    now = {name: environment.get(name) for name in _HARDWARE}
    others = [each for number, each in enumerate(machines) if each != now and each not in machines[:number]]
    return {**environment, "earlier": others} if others else environment
