"""What the Hub of `tests.support.hub` answers: the pages that `huggingface_hub` asks for."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import struct
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from tests.support.hub_state import Fault, Refusal, Repo, User

if TYPE_CHECKING:
    from tests.support.hub import LoopbackHub

LARGE = (".safetensors", ".png", ".model")


class Request(BaseHTTPRequestHandler):
    hub: LoopbackHub
    is_storage: bool
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
        for method, pattern, act in _STORAGE if self.is_storage else _ROUTES:
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

    # what is answered

    def whoami(self) -> None:
        user = self._user()
        if user is None:
            raise Refusal(401, "Invalid username or password.")
        orgs = [{"name": name, "roleInOrg": role} for name, role in user.orgs.items()]
        auth = {"type": "access_token", "accessToken": {"displayName": "test", "role": user.role}}
        self._send(200, {"type": "user", "name": user.name, "orgs": orgs, "auth": auth})

    def create(self) -> None:
        asked = json.loads(self.body)
        user = self._user()
        owner = asked["organization"] or (user.name if user else "")
        name = f"{owner}/{asked['name']}"
        if not self._may_write(owner):
            raise Refusal(403, f"You may not create {name}")
        made = name not in self.hub.repos
        self.hub.repos.setdefault(name, Repo(owner, asked.get("visibility") == "private"))
        self._send(200 if made else 409, {"url": f"{self.hub.endpoint}/{name}", "name": name})

    def info(self, name: str, revision: str = "main") -> None:
        repo = self._repo(name)
        if revision not in (*repo.branches, _sha(repo)):
            raise Refusal(404, "Revision not found", "RevisionNotFound")
        siblings = [{"rfilename": each} for each in repo.branches.get(revision, repo.branches["main"])]
        used = sum(map(len, repo.stored.values()))
        facts = {"id": name, "sha": _sha(repo), "private": repo.private, "tags": [], "usedStorage": used}
        self._send(200, {**facts, "siblings": siblings})

    def auth_check(self, name: str) -> None:
        self._repo(name, write=True)
        self._send(200, {})

    def validate_card(self) -> None:
        try:
            parts = json.loads(self.body)["content"].split("---")
            found = yaml.safe_load(parts[1]) if len(parts) > 2 else {}
        except yaml.YAMLError as error:
            raise Refusal(400, f"Invalid YAML: {error}") from None
        self._send(200, {"errors": [] if isinstance(found, dict) else [{"message": "no mapping"}], "warnings": []})

    def branch(self, name: str, branch: str) -> None:
        repo = self._repo(name, write=True)
        made = branch not in repo.branches
        repo.branches.setdefault(branch, dict(repo.branches["main"]))
        self._send(200 if made else 409, {})

    def preupload(self, name: str, revision: str) -> None:
        repo = self._repo(name, write=not self._is_pull(revision))
        there = repo.branches[revision]
        answers = []
        for asked in json.loads(self.body)["files"]:
            large = asked["path"].endswith(LARGE)
            answer = {"path": asked["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            if asked["path"] in there:
                answer["oid"] = _oid(there[asked["path"]], large)
            answers.append(answer)
        self._send(200, {"files": answers})

    def batch(self, name: str) -> None:
        repo = self._repo(name)
        objects = []
        for asked in json.loads(self.body)["objects"]:
            if self.hub.quota is not None and asked["size"] > self.hub.quota and asked["oid"] not in repo.stored:
                raise Refusal(403, "Private repository storage limit reached, please upgrade your plan")
            answer = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in repo.stored:
                upload = {"href": f"{self.hub.storage}/{name}/{asked['oid']}"}
                verify = {"href": f"{self.hub.endpoint}/{name}.git/info/lfs/verify"}
                answer["actions"] = {"upload": upload, "verify": verify}
            objects.append(answer)
        self._send(200, {"transfer": "basic", "objects": objects})

    def verify(self, name: str) -> None:
        asked = json.loads(self.body)
        if len(self._repo(name).stored.get(asked["oid"], b"")) != asked["size"]:
            raise Refusal(404, "not stored")
        self._send(200, {})

    def commit(self, name: str, revision: str) -> None:
        opens = "create_pr" in self.query
        repo = self._repo(name, write=not self._is_pull(revision))
        files = dict(repo.branches[revision])
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in repo.stored:
                    raise Refusal(400, f"{value['path']} is not stored")
                files[value["path"]] = repo.stored[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        repo.commits, repo.pulls = repo.commits + 1, repo.pulls + opens
        repo.branches[f"refs/pr/{repo.pulls}" if opens else revision] = files
        answer = {"commitUrl": f"{self.hub.endpoint}/{name}/commit/{_sha(repo)}", "commitOid": _sha(repo)}
        pull = {"pullRequestUrl": f"{self.hub.endpoint}/{name}/discussions/{repo.pulls}"} if opens else {}
        self._send(200, {**answer, **pull})

    def resolve(self, name: str, revision: str, path: str) -> None:
        repo = self._repo(name)
        files = repo.branches.get(revision, repo.branches["main"])
        if path not in files:
            raise Refusal(404, "Entry not found", "EntryNotFound")
        content, large = files[path], path.endswith(LARGE)
        headers = {"X-Repo-Commit": _sha(repo), "ETag": f'"{_oid(content, large)}"'}
        if not large:
            return self._send(200, content, headers)
        headers["Location"] = f"{self.hub.storage}/{name}/{_oid(content, True)}"
        headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(content))}
        self._send(302, b"", headers)

    def store(self, name: str, oid: str) -> None:
        if self.headers.get("Authorization"):
            raise Refusal(400, "a token has no business here")
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refusal(400, "other content than was announced")
        self.hub.repos[name].stored[oid] = self.body
        self._send(200, b"", {"ETag": f'"{oid}"'})

    def fetch(self, name: str, oid: str) -> None:
        self._send(200, self.hub.repos[name].stored[oid], {"ETag": f'"{oid}"'})


class _Cut(Exception):
    """The connection is no more."""


_NAME = "([^/]+/[^/]+?)"
_Act = Callable[..., None]
_ROUTES: list[tuple[str, str, _Act]] = [
    ("GET", "/api/whoami-v2", Request.whoami),
    ("POST", "/api/repos/create", Request.create),
    ("POST", "/api/validate-yaml", Request.validate_card),
    ("GET", f"/api/models/{_NAME}", Request.info),
    ("GET", f"/api/models/{_NAME}/revision/(.+)", Request.info),
    ("GET", f"/api/models/{_NAME}/auth-check/write", Request.auth_check),
    ("POST", f"/api/models/{_NAME}/branch/(.+)", Request.branch),
    ("POST", f"/api/models/{_NAME}/preupload/(.+)", Request.preupload),
    ("POST", f"/api/models/{_NAME}/commit/(.+)", Request.commit),
    ("POST", rf"/{_NAME}\.git/info/lfs/objects/batch", Request.batch),
    ("POST", rf"/{_NAME}\.git/info/lfs/verify", Request.verify),
    ("GET HEAD", f"/{_NAME}/resolve/([^/]+)/(.+)", Request.resolve),
]
_STORAGE: list[tuple[str, str, _Act]] = [
    ("PUT", f"/{_NAME}/([0-9a-f]+)", Request.store),
    ("GET HEAD", f"/{_NAME}/([0-9a-f]+)", Request.fetch),
]


def handler(hub: LoopbackHub, is_storage: bool) -> type[Request]:
    return type("Request", (Request,), {"hub": hub, "is_storage": is_storage})


def _sha(repo: Repo) -> str:
    return hashlib.sha1(str(repo.commits).encode()).hexdigest()


def _oid(content: bytes, large: bool) -> str:
    """As git names a file, and git-LFS a large one."""
    return (
        hashlib.sha256(content).hexdigest()
        if large
        else hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    )
