"""`hfscale push`: bring a run's model, or a data set, to the Hugging Face Hub, or finish what was left undone."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from hfscale.errors import HubError, SettingsError
from hfscale.schemas.hub import HubSettings


def add_parser(commands: Any) -> None:
    """Add the command to those of `hfscale`."""
    parser = commands.add_parser(
        "push",
        help="push a run's model, or a data set, to the Hugging Face Hub, or finish an earlier push",
        description="Push a run's model with its card, settings, result and learning curve. Files that the Hub has "
        "are not sent again, so that the same command finishes what was interrupted. Secrets, paths of this machine "
        "and data are refused. The token comes from `hf auth login` or HF_TOKEN.",
        epilog="hfscale push runs/lora --repo me/my-model\nhfscale push runs/lora  # finish what failed\n"
        "hfscale push --dataset mails.csv --repo me/mails",
    )
    add = parser.add_argument
    add("run_folder", metavar="RUN", type=Path, nargs="?", help="run folder, or a model folder")
    add("--dataset", metavar="PATH", type=Path, help="instead of a run: a data file, or a folder of them")
    add("--repo", metavar="ID", help="repository, as in me/my-model; by default where the run was to go before")
    add(
        "--private",
        choices=("true", "false"),
        help="whether only you, or your organization, can see it, where it is made (true)",
    )
    add("--branch", metavar="NAME", help="branch to push to, made where there is none (main)")
    add("--pull_request", choices=("true", "false"), help="open a pull request instead (false)")
    add("--license", metavar="ID", help="license that the card names, as in apache-2.0")
    add("--language", metavar="ID", help="language of the texts that the card names, as in en")
    add("--overwrite_card", choices=("true", "false"), help="also a card that somebody changed on the Hub (false)")
    parser.set_defaults(run=_push)


def _push(settings: argparse.Namespace) -> None:
    from hfscale import access, hub

    if (settings.run_folder is None) == (settings.dataset is None):
        both = ", not both" if settings.dataset else ""
        raise SettingsError(f"what shall be pushed? Give a run folder, or --dataset PATH{both}")
    run: Path | None = settings.run_folder
    if run is not None and not run.is_dir():
        raise SettingsError(f"no such folder: {run}")
    wanted = _wanted(settings, hub.remembered(run) if run else None)
    access.warn_of_license(wanted)
    try:
        overwrite = settings.overwrite_card == "true"
        pushed = hub.push(run, wanted, overwrite) if run else hub.push_dataset(settings.dataset, wanted, overwrite)
        hub.say_pushed(pushed, wanted)
    except HubError as error:
        raise HubError(f"not pushed to {wanted.repo_id}: {_as_flags(str(error))}") from None


def _wanted(settings: argparse.Namespace, before: HubSettings | None) -> HubSettings:
    """What the command line says, and before it what the run was told."""
    given = {
        "repo_id": settings.repo,
        "private": settings.private and settings.private == "true",
        "revision": settings.branch,
        "pull_request": settings.pull_request and settings.pull_request == "true",
        "license": settings.license,
        "language": settings.language,
    }
    if not settings.repo and before is None:
        never = f"{settings.run_folder} was never pushed: " if settings.run_folder else ""  # nothing is noted of data
        raise SettingsError(f"where to? {never}give --repo, as in --repo me/mine")
    before = before if before and settings.repo in (None, before.repo_id) else None
    known: dict[str, Any] = {**dataclasses.asdict(before), "every_checkpoint": False} if before else {}
    if given["pull_request"]:
        known.pop("revision", None)
    if given["revision"]:
        known.pop("pull_request", None)
    try:
        return HubSettings(**{**known, **{name: value for name, value in given.items() if value is not None}})
    except ValueError as error:
        raise SettingsError(_as_flags(str(error))) from None


def _as_flags(message: str) -> str:
    """A recipe's flags as this command's."""
    message = message.replace("--hub.repo_id", "--repo").replace("--hub.revision", "--branch")
    return message.replace("--hub.", "--")
