"""Where a command writes."""

from __future__ import annotations

from pathlib import Path

from hfscale.errors import SettingsError


def refuse_taken(output: Path, flag: str = "--output") -> None:
    """Refuse a place that can't be written or is in use, before anything is computed for it.

    Raises:
        SettingsError: naming it.
    """
    if not output.absolute().parent.is_dir():
        raise SettingsError(f"{flag} {output}: its folder doesn't exist")
    if output.exists():
        raise SettingsError(f"{flag} {output} exists already; choose another, or remove it first")
