"""What a repository on the Hub holds before a push."""

from __future__ import annotations

from typing import Any, Literal

from hfscale.schemas import HubSettings

MESSAGE = "Push with hfscale"
"""Title of a commit, and of the pull request that is opened with it."""
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
