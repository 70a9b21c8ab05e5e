"""What settings check themselves with."""

from __future__ import annotations


def require(condition: bool, message: str) -> None:
    """Raise `ValueError`, which ends a recipe in one line, unless the condition holds."""
    if not condition:
        raise ValueError(message)
