"""A Hugging Face Hub of our own on 127.0.0.1: models, data, regular files, git-LFS, tokens, faults; it counts bytes.

Written after what `huggingface_hub` asks for. Storage has an origin of its own, as on the real Hub, because the client
follows redirects within one origin by itself. Not in here: Xet, multipart uploads, git, web pages.
"""

from __future__ import annotations

import re
import threading
from http.server import ThreadingHTTPServer
from typing import Any

from tests.support.hub_pages import handler
from tests.support.hub_state import Fault, Repo, User

TOKEN, READER = "hf_" + "a1B2" * 8, "hf_" + "r1D2" * 8
"""Of alice, who may write to acme's repositories, too, and of rob, who may only read."""


class LoopbackHub:
    """The server; `with LoopbackHub() as hub`."""

    def __init__(self) -> None:
        alice, rob = User("alice", orgs={"acme": "write", "club": "read"}), User("rob", "read")
        self.tokens = {TOKEN: alice, READER: rob}
        self.repos: dict[str, Repo] = {}
        self.faults: list[Fault] = []
        self.quota: int | None = None
        self.gone = False
        self.requests: list[str] = []
        self.bytes_stored = 0
        """Bytes of large files that came in, also of those that were cut off."""
        self.lock = threading.RLock()
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler(self, large)) for large in (False, True)]
        self.endpoint, self.storage = (f"http://127.0.0.1:{each.server_address[1]}" for each in self._servers)

    def __enter__(self) -> LoopbackHub:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Be gone for good, also for whoever has a connection."""
        self.gone = True
        for fault in self.faults:
            fault.hold and fault.hold.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def fail(self, method: str, path: str, times: int = 1, **what: Any) -> Fault:
        """Let the next requests whose path matches the pattern go wrong."""
        self.faults.append(Fault(method, path, times, **what))
        return self.faults[-1]

    def count(self, method: str, path: str) -> int:
        """Requests so far."""
        return sum(re.fullmatch(f"{method} {path}", each) is not None for each in self.requests)

    def files(self, repo: str, branch: str = "main") -> dict[str, bytes]:
        """Content by name."""
        return self.repos[repo].branches[branch]

    def environment(self, token: str | None, home: Any) -> dict[str, str]:
        """What a process needs to find this Hub, with a cache of its own."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(home),
            "HF_TOKEN": token or "",
        }
