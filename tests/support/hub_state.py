"""What the Hub of `tests.support.hub` holds and knows."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass
class User:
    """Whose token it is, and what it may do."""

    name: str
    role: str = "write"
    orgs: dict[str, str] = field(default_factory=dict)
    """Role by organization."""
    expired: bool = False


@dataclass
class Pull:
    """A pull request."""

    title: str
    author: str
    status: str = "open"


@dataclass
class Repo:
    """A repository: files by branch, and large ones by their sha256."""

    owner: str
    private: bool
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})
    stored: dict[str, bytes] = field(default_factory=dict)
    commits: int = 0
    pulls: list[Pull] = field(default_factory=list)
    titles: dict[str, dict[str, str]] = field(default_factory=dict)
    """Of the commit that has put a file there last, by branch."""


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        self.status, self.message, self.code = status, message, code


@dataclass
class Fault:
    """What happens to the next requests of a kind."""

    method: str
    path: str
    times: int
    status: int | None = None
    cut_after: int | None = None
    """Bytes of the body after which the connection is cut."""
    hold: threading.Event | None = None
    """Taken in, but neither cut nor answered before that."""
