"""What the Hub of `tests.support.hub` answers: the pages that `huggingface_hub` asks for."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import yaml

from tests.support.hub_requests import Request
from tests.support.hub_state import Pull, Refusal, Repo

if TYPE_CHECKING:
    from tests.support.hub import LoopbackHub

LARGE = (".safetensors", ".png", ".model")


class Pages(Request):
    """A repository of data is called `datasets/alice/mails`, a model's by its name alone."""

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
        name = f"{'datasets/' if asked.get('type') == 'dataset' else ''}{owner}/{asked['name']}"
        if not self._may_write(owner):
            raise Refusal(403, f"You may not create {name}")
        made = name not in self.hub.repos
        self.hub.repos.setdefault(name, Repo(owner, asked.get("visibility") == "private"))
        self._send(200 if made else 409, {"url": f"{self.hub.endpoint}/{name}", "name": name})

    def info(self, name: str, revision: str = "main") -> None:
        repo = self._repo(name)
        if revision not in (*repo.branches, _sha(repo)):
            raise Refusal(404, "Revision not found", "RevisionNotFound")
        files = repo.branches.get(revision, repo.branches["main"])
        siblings = [
            {"rfilename": path, **(_blob(path, files[path]) if "blobs" in self.query else {})} for path in files
        ]
        used = sum(map(len, repo.stored.values()))
        facts = {"id": name, "sha": _sha(repo), "private": repo.private, "tags": [], "usedStorage": used}
        self._send(200, {**facts, "siblings": siblings})

    def paths_info(self, name: str, revision: str) -> None:
        repo, asked = self._repo(name), parse_qs(self.body.decode())
        files, titles = repo.branches[revision], repo.titles.get(revision, {})
        answers = []
        for path in set(asked["paths"]) & set(files):
            blob = _blob(path, files[path])
            answers.append({"type": "file", "path": path, "oid": blob["blobId"], "size": blob["size"]})
            if asked["expand"] == ["true"]:  # what no commit has put there, a page of the Hub did
                title = titles.get(path, f"Update {path}")
                answers[-1]["lastCommit"] = {"id": _sha(repo), "title": title, "date": _DAY}
        self._send(200, answers)

    def discussions(self, name: str) -> None:
        repo = self._repo(name)
        kind, _, plain = name.rpartition("datasets/")
        asked = {key: values[0] for key, values in self.query.items()}
        found = [
            {
                "num": number,
                "title": pull.title,
                "status": pull.status,
                "author": {"name": pull.author},
                "isPullRequest": True,
                "createdAt": _DAY,
                "repo": {"name": plain, "type": "dataset" if kind else "model"},
            }
            for number, pull in enumerate(repo.pulls, start=1)
            if asked.get("author") in (None, pull.author) and asked.get("status") in (None, "all", pull.status)
        ]
        page = found[::-1] if asked.get("type") != "discussion" else []
        self._send(200, {"discussions": page, "count": len(page), "start": 0, "numClosedDiscussions": 0})

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
        opens, user = "create_pr" in self.query, self._user()
        repo = self._repo(name, write=not self._is_pull(revision))
        files, titles, title = dict(repo.branches[revision]), dict(repo.titles.get(revision, {})), ""
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            title = value["summary"] if line["key"] == "header" else title
            if line["key"] in ("file", "lfsFile"):
                titles[value["path"]] = title
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in repo.stored:
                    raise Refusal(400, f"{value['path']} is not stored")
                files[value["path"]] = repo.stored[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        repo.commits += 1
        if opens and user:
            repo.pulls.append(Pull(title, user.name))
            revision = f"refs/pr/{len(repo.pulls)}"
        repo.branches[revision], repo.titles[revision] = files, titles
        answer = {"commitUrl": f"{self.hub.endpoint}/{name}/commit/{_sha(repo)}", "commitOid": _sha(repo)}
        pull = {"pullRequestUrl": f"{self.hub.endpoint}/{name}/discussions/{len(repo.pulls)}"} if opens else {}
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


_NAME = "((?:datasets/)?[^/]+/[^/]+?)"
_API = f"/api/(?:models/|(?=datasets/)){_NAME}"
_DAY = "2026-01-01T00:00:00.000Z"
_Act = Callable[..., None]
_ROUTES: list[tuple[str, str, _Act]] = [
    ("GET", "/api/whoami-v2", Pages.whoami),
    ("POST", "/api/repos/create", Pages.create),
    ("POST", "/api/validate-yaml", Pages.validate_card),
    ("GET", f"{_API}", Pages.info),
    ("GET", f"{_API}/revision/(.+)", Pages.info),
    ("GET", f"{_API}/auth-check/write", Pages.auth_check),
    ("GET", f"{_API}/discussions", Pages.discussions),
    ("POST", f"{_API}/paths-info/(.+)", Pages.paths_info),
    ("POST", f"{_API}/branch/(.+)", Pages.branch),
    ("POST", f"{_API}/preupload/(.+)", Pages.preupload),
    ("POST", f"{_API}/commit/(.+)", Pages.commit),
    ("POST", rf"/{_NAME}\.git/info/lfs/objects/batch", Pages.batch),
    ("POST", rf"/{_NAME}\.git/info/lfs/verify", Pages.verify),
    ("GET HEAD", f"/{_NAME}/resolve/([^/]+)/(.+)", Pages.resolve),
]
_STORAGE: list[tuple[str, str, _Act]] = [
    ("PUT", f"/{_NAME}/([0-9a-f]+)", Pages.store),
    ("GET HEAD", f"/{_NAME}/([0-9a-f]+)", Pages.fetch),
]


def handler(hub: LoopbackHub, is_storage: bool) -> type[Request]:
    return type("Pages", (Pages,), {"hub": hub, "routes": _STORAGE if is_storage else _ROUTES})


def _sha(repo: Repo) -> str:
    return hashlib.sha1(str(repo.commits).encode()).hexdigest()


def _oid(content: bytes, large: bool) -> str:
    """As git names a file, and git-LFS a large one."""
    return (
        hashlib.sha256(content).hexdigest()
        if large
        else hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    )


def _blob(path: str, content: bytes) -> dict[str, Any]:
    """As a list of files names it; a large one's blob is its pointer."""
    if not path.endswith(LARGE):
        return {"size": len(content), "blobId": _oid(content, False)}
    lfs = {"sha256": _oid(content, True), "size": len(content), "pointerSize": 134}
    return {"size": len(content), "blobId": _oid(str(lfs).encode(), False), "lfs": lfs}
