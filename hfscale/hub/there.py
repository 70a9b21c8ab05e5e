"""What a repository on the Hub holds before a push."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any, Literal

from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from huggingface_hub.utils.sha import git_hash

from hfscale import console
from hfscale.hub.contents import CARD, WEIGHTS
from hfscale.schemas import HubSettings

MESSAGE = "Push with hfscale"
"""Title of a commit, and of the pull request that is opened with it."""
BEST = "The best model so far"
"""How the title of a push in mid-training begins."""
_OURS = (MESSAGE, BEST)
"""How the titles of the commits begin whose card nobody has written."""
_FIRST = "initial commit"
"""Title of the one that the Hub makes with a new repository."""
Kind = Literal["model", "dataset"]


def open_pull_request(api: Any, hub: HubSettings, kind: Kind, noted: str | None) -> str | None:
    """Branch of the pull request that a push goes on with, as long as it is open; None where it opens one.

    Beside a model's run it is noted. Beside data nothing is: there it is the newest that who pushes has opened so.
    """
    author = api.whoami()["name"]
    found = api.get_repo_discussions(
        hub.repo_id, author=author, discussion_type="pull_request", discussion_status="open", repo_type=kind
    )
    mine = {each.git_reference: each for each in found}
    if kind == "model":
        return noted if noted in mine else None
    return max(
        (ref for ref, each in mine.items() if each.title == MESSAGE), key=lambda ref: mine[ref].num, default=None
    )


def files_there(api: Any, hub: HubSettings, kind: Kind, revision: str | None) -> dict[str, Any]:
    """What the Hub says of each file of the branch, by name: its size, and what it is compared by."""
    found = api.repo_info(hub.repo_id, revision=revision, repo_type=kind, files_metadata=True).siblings or []
    return {each.rfilename: each for each in found}


def is_new(added: CommitOperationAdd, there: Any) -> bool:
    """Whether a file is not what the Hub has in its place; None where it has nothing there."""
    if there is None or there.lfs:
        return there is None or there.lfs.sha256 != added.upload_info.sha256.hex()
    if there.size != added.upload_info.size:
        return True
    with added.as_file() as file:
        return git_hash(file.read()) != there.blob_id


def keeps_card(api: Any, hub: HubSettings, kind: Kind, revision: str | None) -> bool:
    """Whether the card there is somebody's own, which is said: its last change was no push, as the title tells.

    Asked of a card that is there, and is another than the one to be pushed.
    """
    found = api.get_paths_info(hub.repo_id, [CARD], expand=True, revision=revision, repo_type=kind)
    last = found[0].last_commit if found else None
    if last is None or last.title.startswith(_OURS) or last.title == _FIRST:
        return False
    console.warn(
        f"the card of {hub.repo_id} stays as it is there: {last.title!r} changed it last, and no push; "
        "`hfscale push` with --overwrite_card true puts this one in its place"
    )
    return True


def left_behind(hub: HubSettings, there: Mapping[str, Any], names: set[str]) -> list[CommitOperationDelete]:
    """Weights that are in the repository and not in this model: beside it they would be loaded with it, or instead."""
    others = {name for name in there if "/" not in name} - names
    gone = sorted(name for name in others if any(fnmatch.fnmatch(name, each) for each in WEIGHTS))
    if gone:
        console.warn(f"{', '.join(gone)} of another model go from {hub.repo_id}; its earlier commits keep them")
    return [CommitOperationDelete(name) for name in gone]
