"""Going on with other settings: what is refused, what is allowed, what does not matter."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import yaml

from hfscale import console
from hfscale.errors import RunFolderError, SettingsError, did_you_mean
from hfscale.schemas import NEUTRAL, TrainSettings

_OF_COURSE = {"train.output_dir", "train.resume", "train.allow_changes"}


def refuse_unknown_names(settings: dict[str, Any], train: TrainSettings) -> None:
    """Every name in `train.allow_changes` has to be a setting or a block of them.

    Raises:
        SettingsError: naming the nearest.
    """
    for name in train.allow_changes or []:
        if name not in settings and not any(known.startswith(f"{name}.") for known in settings):
            raise SettingsError(f"--train.allow_changes: there is no setting {name}{did_you_mean(name, settings)}")


def saved_settings(run: Path) -> dict[str, Any]:
    """The settings in a run's `config.yaml`, by dotted name.

    Raises:
        RunFolderError: where it can't be read.
    """
    try:
        content = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")) or {}
        return dict(_dotted(content))
    except (OSError, ValueError, AttributeError, yaml.YAMLError):
        raise RunFolderError(
            f"{run}/config.yaml can't be read; choose another --train.output_dir, or remove it first"
        ) from None


def _dotted(content: dict[str, Any], prefix: str = "") -> Generator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def allowed_changes(
    given: dict[str, Any], saved: dict[str, Any], where: Path, train: TrainSettings
) -> dict[str, list[Any]]:
    """What is allowed to change the mathematics of the run from here on, as [before, now]; says what else differs.

    Raises:
        SettingsError: for other mathematics that is not allowed, by name.
    """
    allowed = set(train.allow_changes or [])
    differing = _differing(given, saved)
    refused = [name for name in differing if name not in NEUTRAL | allowed and name.split(".")[0] not in allowed]
    if refused:
        raise SettingsError(f"{_other(differing, refused, where)}, or allow it: {_allowing(refused)}")
    for name in differing:
        if name not in _OF_COURSE:
            before, now = map(_shown, differing[name])
            console.say(f"changed    {name}: {before} before, {now} now")
    return {name: values for name, values in differing.items() if name not in NEUTRAL}


def refuse_another_run(given: dict[str, Any], saved: dict[str, Any], run: Path) -> None:
    """A complete run can't be gone on with where it is, only in another folder.

    Raises:
        SettingsError: where the settings are those of another run.
    """
    differing = _differing(given, saved)
    refused = [name for name in differing if name not in NEUTRAL]
    if refused:
        raise SettingsError(
            f"{_other(differing, refused, run)}; to go on there from this complete run, add --train.resume {run} "
            f"{_allowing(refused)}"
        )


def _differing(given: dict[str, Any], saved: dict[str, Any]) -> dict[str, list[Any]]:
    names = dict.fromkeys((*given, *saved))
    return {name: [saved.get(name), given.get(name)] for name in names if given.get(name) != saved.get(name)}


def _other(differing: dict[str, list[Any]], refused: list[str], where: Path) -> str:
    shown = ", ".join(
        f"{name} was {_shown(before)}, is {_shown(now)}" for name in refused[:3] for before, now in [differing[name]]
    )
    more = f", and {len(refused) - 3} more" if len(refused) > 3 else ""
    way_out = "give those, or begin anew in another --train.output_dir"
    return f"{where} was made with other settings ({shown}{more}); {way_out}"


def _allowing(names: list[str]) -> str:
    return f"--train.allow_changes '[{', '.join(names)}]'"


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)
