"""Whether the Hub would take a push, known before anything is trained for it, and what its refusals mean."""

from __future__ import annotations

import re
from collections.abc import Generator
from functools import cache
from typing import Any, NamedTuple

from hfscale import console
from hfscale.errors import HubError, did_you_mean
from hfscale.network import quiet_client
from hfscale.schemas import HubSettings

_CONNECT_SECONDS, _ANSWER_SECONDS = 10.0, 600.0
_NO_SPACE = ("quota", "storage limit", "out of storage", "insufficient storage")
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_LICENSES = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl
lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl openmdw-1.0
openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma unknown
other
"""
"""What the Hub lists: https://huggingface.co/docs/hub/repositories-licenses."""


class Access(NamedTuple):
    """What a push would find."""

    user: str
    """Whose token it is."""
    role: str
    """What the token may do, in words."""
    exists: bool
    """Whether the repository is there already."""
    private: bool | None
    """Whether an existing one is; None for one that is yet to be made."""
    used_bytes: int | None
    """What an existing one takes; None where the Hub doesn't say. What is left, it tells nobody."""


class Problem(NamedTuple):
    """Why the Hub didn't do as it was asked."""

    reason: str
    """Half a line, with the way out where there is one."""
    passing: bool
    """Whether it may well work a little later."""


def check_access(hub: HubSettings) -> Access:
    """Ask the Hub who we are and whether we may write to the repository; changes nothing there.

    Raises:
        HubError: without a network, without a token, with one that may not write there, or where a model that is to
            be private would get into a public repository.
    """
    from huggingface_hub import HfApi

    refuse_without_token()
    warn_of_license(hub)
    api = HfApi()
    try:
        with quiet_client():
            set_patience()
            who = api.whoami()
            found = _find(api, hub.repo_id)
            _refuse_read_only(who, hub)
            if not hub.pull_request:
                _refuse_strange_owner(who, hub)
                _ask_for_rights(api, hub, found is not None)
    except HubError:
        raise
    except Exception as error:
        raise HubError(f"can't push to {hub.repo_id}: {problem_of(error).reason}") from None
    if found is None and hub.pull_request:
        raise HubError(f"there is no {hub.repo_id} to open a pull request in; leave out --hub.pull_request")
    private = None if found is None else bool(found.private)
    refuse_public(hub, private)
    used = getattr(found, "used_storage", None)
    return Access(who["name"], _role_of(who), found is not None, private, used)


def token_holder() -> tuple[str, str]:
    """Whose token it is, and what it may do.

    Raises:
        HubError: without a network, or without a token that the Hub takes.
    """
    from huggingface_hub import HfApi

    refuse_without_token()
    try:
        with quiet_client():
            set_patience()
            who = HfApi().whoami()
    except Exception as error:
        raise HubError(f"can't ask the Hub: {problem_of(error).reason}") from None
    return who["name"], _role_of(who)


def warn_of_license(hub: HubSettings) -> None:
    """Warn of a license that isn't on the Hub's list as we know it: it may have grown, and so this is no refusal."""
    known = _LICENSES.split()
    if hub.license is not None and hub.license not in known:
        near = did_you_mean(hub.license.lower(), known) or ";"
        console.warn(
            f"the license {hub.license} is none that the Hub is known to list{near} `other` stands for the rest"
        )


def refuse_without_token() -> None:
    """Raises `HubError` where no token is set, or the Hub may not be asked at all."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise HubError("HF_HUB_OFFLINE is set, so that nothing can be pushed; unset it")
    if get_token() is None:
        raise HubError("there is no token to push with; run `hf auth login`, or set HF_TOKEN")


@cache
def set_patience() -> None:
    """Give up on a server that takes no connection or never answers: the client itself would wait for ever."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    def patient_client() -> Any:
        client = default_client_factory()
        client.timeout = (_CONNECT_SECONDS, _ANSWER_SECONDS, _ANSWER_SECONDS, _ANSWER_SECONDS)
        return client

    set_client_factory(patient_client)


def refuse_public(hub: HubSettings, private: bool | None) -> None:
    """Raises `HubError` where the repository is public, and nobody said that it may be."""
    if hub.private and not hub.pull_request and private is False:
        raise HubError(f"{hub.repo_id} is public: allow that with --hub.private false, or push to another")


def problem_of(error: BaseException) -> Problem:
    """What an error of the client means, whatever of its layers raised it."""
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]  (of httpx or httpx2)

    for each in _behind(error):
        response = getattr(each, "response", None)
        if getattr(response, "status_code", None):
            said = getattr(each, "server_message", None) or response.headers.get("X-Error-Message") or ""  # type: ignore[union-attr]
            return _problem_of_status(response.status_code, " ".join(said.split()))  # type: ignore[union-attr]
        closed = "client has been closed" in str(each)  # after a thread beside it has lost its connection
        if closed or isinstance(each, (ConnectionError, TimeoutError, HTTPError)):
            said = " ".join(str(each).split()) or type(each).__name__
            if status := re.search(r"\b([45]\d\d) (?:[A-Z][a-z]+)", said):  # hf_xet's have no response
                return _problem_of_status(int(status[1]), said)
            return Problem(f"the Hub can't be reached ({said})", True)
    said = " ".join(str(error).split()) or type(error).__name__
    if any(word in said.lower() for word in _NO_SPACE):
        return Problem(f"there is no space left on the Hub ({said})", False)
    return Problem(said, False)


def _problem_of_status(status: int, said: str) -> Problem:
    said = f" ({said.rstrip('.')})" if said else ""
    if status in (402, 413, 507) or any(word in said.lower() for word in _NO_SPACE):
        return Problem(f"there is no space left on the Hub{said}; make room there", False)
    if status == 401:
        return Problem(f"the Hub doesn't take the token{said}; run `hf auth login`, or set another HF_TOKEN", False)
    if status == 403:
        return Problem(f"the token may not do that{said}; run `hf auth login` with one that may write there", False)
    if status in _PASSING:
        return Problem(f"the Hub answers {status}{said}", True)
    return Problem(f"the Hub refuses with {status}{said}", False)


def _behind(error: BaseException) -> Generator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _find(api: Any, repo_id: str) -> Any:
    """What is known of the repository; None where there is none."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return api.model_info(repo_id, expand=["private", "usedStorage"])
    except RepositoryNotFoundError:
        return None


def _token_of(who: dict[str, Any]) -> dict[str, Any]:
    return (who.get("auth") or {}).get("accessToken") or {}


def _role_of(who: dict[str, Any]) -> str:
    role = _token_of(who).get("role")
    return {"write": "may write", "read": "may only read", "fineGrained": "fine-grained"}.get(role, "rights unknown")  # type: ignore[arg-type]


def _refuse_read_only(who: dict[str, Any], hub: HubSettings) -> None:
    token = _token_of(who)
    scoped = (token.get("fineGrained") or {}).get("scoped") or []
    granted = [right for scope in scoped for right in scope.get("permissions", [])]
    if token.get("role") == "read" or (token.get("role") == "fineGrained" and "repo.write" not in granted):
        raise HubError(
            f"the token of {who['name']} may only read; to push to {hub.repo_id}, run `hf auth login` with one that "
            "may write"
        )


def _refuse_strange_owner(who: dict[str, Any], hub: HubSettings) -> None:
    owner, name = hub.repo_id.split("/")
    roles = {each["name"]: each.get("roleInOrg") for each in who.get("orgs") or []}
    if owner.lower() != who["name"].lower() and roles.get(owner, "read") == "read":
        raise HubError(
            f"{who['name']} may not write to {hub.repo_id}; choose {who['name']}/{name}, or open a pull request with "
            "--hub.pull_request true"
        )


def _ask_for_rights(api: Any, hub: HubSettings, exists: bool) -> None:
    """An organization may keep some of its repositories from some of its members."""
    from huggingface_hub.errors import HfHubHTTPError

    if not exists:
        return
    try:
        api.auth_check(hub.repo_id, write=True)
    except HfHubHTTPError as error:
        if error.response.status_code != 404:  # a Hub that doesn't answer that question
            raise
