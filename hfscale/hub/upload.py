"""Bringing a complete model to the Hub: tried again while that may help, and finished later by the same call.

One commit holds all that has changed. The client compares with what the Hub has: a file that is there is not sent
again, and the content of a large one counts as soon as it is stored, also where the commit never came about.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from hfscale import access, console
from hfscale.data.readers import KINDS, file_kind
from hfscale.errors import HubError, SettingsError
from hfscale.files import write_json
from hfscale.hub.child import in_child
from hfscale.hub.contents import CARD, RECORD, Published, data_files, published_files
from hfscale.hub.data_card import source_files
from hfscale.hub.scan import refuse_private, refuse_secrets
from hfscale.hub.there import MESSAGE, Kind, files_there, is_new, keeps_card, left_behind, open_pull_request
from hfscale.network import quiet_client
from hfscale.schemas import HubSettings

WAITS = (5.0, 20.0, 60.0)
"""Seconds before each further try, on top of the client's own tries at single requests."""
_SLOW_BYTES = 2e8
"""Of rows, above which it is said that they are read."""


class Pushed(NamedTuple):
    """What a push came to."""

    url: str
    """Of the commit, or of the pull request."""
    num_files: int
    num_bytes: int
    """Of all files, also of those that were there already."""
    num_new: int
    new_bytes: int
    """Of those that were not there as they are; content that an earlier try has stored counts, though it isn't sent
    again."""


def push(run: Path, hub: HubSettings, overwrite_card: bool = False) -> Pushed:
    """Push a run folder, or a model folder, and note in its `push.json` where to and whether that is done.

    Args:
        overwrite_card: also a card that somebody has changed on the Hub.

    Raises:
        HubError: for what must not be published; where the Hub refuses, or stays away.
        ModelError: where there is no complete model.
    """
    files = published_files(run, hub)
    refuse_private(run, files)
    access.refuse_without_token()
    record, before = _record_of(run, hub), push_record(run)
    if not (before.get("complete") and before.get("repo_id") != hub.repo_id):  # elsewhere it is, and stays known to be
        write_json(run / RECORD, {**record, "complete": False})
    upload = partial(_upload, hub, files, record["pull_request_ref"], overwrite_card=overwrite_card)
    pushed, pull_request = _trying_again(hub, upload)
    ref = pull_request or record["pull_request_ref"]
    write_json(run / RECORD, {**record, "pull_request_ref": ref, "complete": True})
    return pushed


def push_model(folder: Path, hub: HubSettings, message: str) -> None:
    """Push a model folder that is not yet a run's last, in one try; nothing is noted.

    Raises:
        HubError: for what must not be published; where the Hub refuses, or stays away.
        OSError: where the folder is taken away meanwhile.
    """
    files = published_files(folder, hub)
    refuse_private(folder, files)
    _trying_again(hub, partial(_upload, hub, files, None, message), waits=())


def remembered(run: Path) -> HubSettings | None:
    """Where a run is to be pushed: as an earlier push of it, or as its own settings say; None where neither does."""
    from hfscale.runs import settings_of

    found = push_record(run) or settings_of(run).get("hub") or {}
    names = {field.name for field in dataclasses.fields(HubSettings)}
    try:
        return HubSettings(**{name: found[name] for name in names & set(found)}) if found else None
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{run} was to be pushed to what is no repository: {error}") from None


def say_pushed(pushed: Pushed, hub: HubSettings) -> None:
    """One line for a push that is done."""
    place = f"{'a pull request to ' if hub.pull_request else ''}{hub.repo_id}"
    number, size, new = f"{pushed.num_files:,} files", f"{pushed.num_bytes / 2**20:,.2f} MiB", ""
    if not pushed.num_new:
        return console.say(f"hub        {place} holds all {number} already, nothing was sent; {pushed.url}")
    if pushed.num_new < pushed.num_files:
        number, new = f"{pushed.num_new:,} of {number} new or changed", f"{pushed.new_bytes / 2**20:,.2f} of "
    console.say(f"pushed     {place}: {number}, {new}{size}; {pushed.url}")


def _record_of(run: Path, hub: HubSettings) -> dict[str, Any]:
    """What `push.json` notes; a pull request that was opened for the same repository is gone on with."""
    before = push_record(run)
    same = before.get("repo_id") == hub.repo_id and hub.pull_request
    return {**dataclasses.asdict(hub), "pull_request_ref": before.get("pull_request_ref") if same else None}


def push_record(run: Path) -> dict[str, Any]:
    """What the last push of a run noted; empty where there was none."""
    try:
        found = json.loads((run / RECORD).read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def published_as(run: Path) -> str | None:
    """The repository that holds a run's model; None where no push is done, or only a pull request holds it."""
    record = push_record(run)
    return record.get("repo_id") if record.get("complete") and not record.get("pull_request") else None


def _trying_again(hub: HubSettings, act: Callable[[], Any], waits: Sequence[float] | None = None) -> Any:
    """The result of `act`, which is tried once more after each wait as long as that may help."""
    for wait in (*(WAITS if waits is None else waits), None):
        done = in_child(_try, act)
        if not isinstance(done, access.Problem):
            return done
        if wait is None or not done.passing:
            raise HubError(done.reason)
        console.say(f"hub        {done.reason}; trying {hub.repo_id} again in {wait:.0f} s")
        time.sleep(wait)
    raise AssertionError


def _try(act: Callable[[], Any]) -> Any:
    """The result of `act`, or the `Problem` that kept it from one."""
    try:
        with quiet_client():
            return act()
    except HubError as error:
        return access.Problem(str(error), False)
    except Exception as error:
        return access.problem_of(error)


def push_dataset(source: Path, hub: HubSettings, overwrite_card: bool = False) -> Pushed:
    """Push the data in a file, or in a folder, under a card that counts what is in it; one that lies there is kept.

    Nothing is noted beside the data: the same call sends what the Hub misses, into the pull request that is open.

    Args:
        overwrite_card: as for `push`.

    Raises:
        DataError: for a source that doesn't exist or holds no data, and for a file that can't be read.
        HubError: for a secret in the data; where the Hub refuses, or stays away.
    """
    size = sum(path.stat().st_size for path in source_files(source) if file_kind(path) in KINDS)
    if size > _SLOW_BYTES:
        console.say(
            f"data       {size / 2**20:,.0f} MiB are read to count rows and to look for secrets: this takes a while"
        )
    files = data_files(source, hub)
    refuse_secrets(files)
    access.refuse_without_token()
    upload = partial(_upload, hub, files, None, kind="dataset", overwrite_card=overwrite_card)
    pushed, _ = _trying_again(hub, upload)
    return pushed


def _upload(
    hub: HubSettings,
    files: Sequence[Published],
    pull_request: str | None,
    message: str = MESSAGE,
    kind: Kind = "model",
    overwrite_card: bool = False,
) -> tuple[Pushed, str | None]:
    """(what it came to, the branch of a pull request that this has opened)."""
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    api = HfApi(library_name="hfscale")
    access.set_patience()
    _prepare(api, hub, kind)
    pull_request = open_pull_request(api, hub, kind, pull_request) if hub.pull_request else None
    shown = console.is_terminal() and not are_progress_bars_disabled()
    disable_progress_bars() if not shown else None
    added = [CommitOperationAdd(file.name, str(file.path) if file.content is None else file.content) for file in files]
    there = files_there(api, hub, kind, pull_request or hub.revision)
    new = {each.path_in_repo: each.upload_info.size for each in added if is_new(each, there.get(each.path_in_repo))}
    if CARD in {*new} & {*there} and not overwrite_card and keeps_card(api, hub, kind, pull_request or hub.revision):
        added = [each for each in added if each.path_in_repo != CARD]
        del new[CARD]
    gone = left_behind(hub, there, {file.name for file in files}) if kind == "model" else []
    try:
        done = api.create_commit(
            hub.repo_id,
            [*added, *gone],
            commit_message=message,
            revision=pull_request or hub.revision,
            create_pr=hub.pull_request and pull_request is None,
            repo_type=kind,
        )
    finally:
        enable_progress_bars() if not shown else None
    if hub.pull_request and pull_request is None and done.pr_url is None:
        raise HubError(f"{hub.repo_id} holds all of this already, so that there is nothing to open a pull request for")
    size = sum(each.upload_info.size for each in added)
    pushed = Pushed(done.pr_url or done.commit_url, len(added), size, len(new), sum(new.values()))
    return pushed, f"refs/pr/{done.pr_num}" if done.pr_num else None


def _prepare(api: Any, hub: HubSettings, kind: Kind) -> None:
    """See to it that the repository and the branch are there."""
    if hub.pull_request:
        return
    api.create_repo(hub.repo_id, private=hub.private, exist_ok=True, repo_type=kind)
    is_private = bool(api.repo_info(hub.repo_id, repo_type=kind).private)
    access.refuse_public(hub, is_private)
    if is_private and not hub.private:
        console.warn(f"{hub.repo_id} is there already, and stays private: who sees it is changed in its settings")
    if hub.revision and hub.revision != "main":
        api.create_branch(hub.repo_id, branch=hub.revision, exist_ok=True, repo_type=kind)
