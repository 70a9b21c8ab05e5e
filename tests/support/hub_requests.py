"""How the Hub of `tests.support.hub` takes requests in: faults, bodies, and who asks for what."""

from __future__ import annotations

import json
import re
import socket
import struct
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.hub_state import Fault, Refusal, Repo, User

if TYPE_CHECKING:
    from tests.support.hub import LoopbackHub


class Request(BaseHTTPRequestHandler):
    """One of them; who inherits from it answers."""

    hub: LoopbackHub
    routes: list[tuple[str, str, Callable[..., None]]]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self) -> None:
        url = urlsplit(self.path)
        self.where, self.query = unquote(url.path), parse_qs(url.query)
        with self.hub.lock:
            self.hub.requests.append(f"{self.command} {self.where}")
        try:
            if self.hub.gone:
                raise _Cut
            fault = self._fault()
            self.body = self._read(fault)
            if fault and fault.status:
                raise Refusal(fault.status, "injected")
            with self.hub.lock:
                self._route()
        except Refusal as refusal:
            headers = {"X-Error-Message": refusal.message, **({"X-Error-Code": refusal.code} if refusal.code else {})}
            self._send(refusal.status, {"error": refusal.message}, headers)
        except (ConnectionError, _Cut):
            self.close_connection = True

    def _fault(self) -> Fault | None:
        with self.hub.lock:
            for fault in self.hub.faults:
                if fault.times and fault.method == self.command and re.search(fault.path, self.where):
                    fault.times -= 1
                    return fault
        return None

    def _read(self, fault: Fault | None) -> bytes:
        left = int(self.headers.get("Content-Length") or 0)
        if fault and fault.cut_after is not None:
            left = min(left, fault.cut_after)
        body = b""
        while left:
            piece = self.rfile.read(min(left, 65536))
            with self.hub.lock:
                self.hub.bytes_stored += len(piece) if self.command == "PUT" else 0
            if not piece:
                raise _Cut
            body, left = body + piece, left - len(piece)
        if fault and fault.hold:
            fault.hold.wait(60)
        if fault and fault.cut_after is not None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            raise _Cut
        return body

    def _route(self) -> None:
        for method, pattern, act in self.routes:
            found = re.fullmatch(pattern, self.where)
            if found and self.command in method.split():
                return act(self, *found.groups())
        raise Refusal(404, "no such page")

    def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    # who asks, and for what

    def _user(self) -> User | None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if not token:
            return None
        user = self.hub.tokens.get(token)
        if user is None or user.expired:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return user

    def _may_write(self, owner: str) -> bool:
        user = self._user()
        role = "write" if user and user.name == owner else user and user.orgs.get(owner)
        return bool(user and user.role == "write" and role == "write")

    def _repo(self, name: str, write: bool = False) -> Repo:
        repo, user = self.hub.repos.get(name), self._user()
        if repo is None or (repo.private and not (user and repo.owner in (user.name, *user.orgs))):
            raise Refusal(404 if user else 401, "Repository not found", "RepoNotFound")
        if write and not self._may_write(repo.owner):
            raise Refusal(403, f"You may not write to {name}")
        return repo

    def _is_pull(self, revision: str) -> bool:
        return "create_pr" in self.query or revision.startswith("refs/pr/")


class _Cut(Exception):
    """The connection is no more."""
