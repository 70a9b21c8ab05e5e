"""The `hfscale` command: what can be done before a run and with one."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any, NoReturn

from hfscale.commands import compress, doctor, export, plan, predict, prune, push, slurm
from hfscale.errors import SettingsError, did_you_mean, one_line

_COMMANDS = (plan, predict, compress, export, prune, push, doctor, slurm)


class _Help(argparse.HelpFormatter):
    """Lines stay apart, and a value is called by its kind where it has no name."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(super(_Help, self)._fill_text(line, width, indent) for line in text.splitlines())

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        kinds: dict[Any, str] = {int: "N", float: "X", Path: "PATH"}
        return kinds.get(action.type) or super()._get_default_metavar_for_optional(action)


class _Parser(argparse.ArgumentParser):
    """A parser whose mistakes are one line each, without the usage, and know near names; so are its commands'."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=_Help, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        raise SettingsError(self._explain(message))

    def _explain(self, message: str) -> str:
        choice = re.fullmatch(r"argument (\S+): invalid choice: (.+) \(choose from (.+)\)", message)
        if choice:
            name, given, choices = choice[1], choice[2].strip("'"), choice[3].replace("'", "")
            if name.startswith("-"):
                return f"{name} must be one of {choices}, got {given}"
            return f"no {name} {given}{did_you_mean(given, choices.split(', ')) or f'; there are {choices}'}"
        missing = message.partition("the following arguments are required: ")[2].split(", ")[0]
        if missing == "RUN":
            return f"RUN is missing; it comes first, as in {self.prog} RUN ...: options may take all that follows"
        if missing:
            return f"{missing} is missing; {self.prog} --help says more"
        return message.removeprefix("argument ").replace(": expected one argument", " needs a value")

    def refuse_unknown(self, word: str) -> NoReturn:
        """Refuse a word that no option takes."""
        near = did_you_mean(word, self._option_string_actions) if word.startswith("-") else ""
        raise SettingsError(f"unexpected argument {word}{near or f'; {self.prog} --help lists what there is'}")


def main(args: list[str] | None = None) -> None:
    """Entry point of `hfscale`; a user's mistake ends in one line and exit status 2."""
    parser = _Parser(prog="hfscale", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in _COMMANDS:
        command.add_parser(commands)
    with one_line():
        settings, settings.more = parser.parse_known_args(args)
        # Only a command that says so takes words it doesn't know, and hands them on.
        if settings.more and not getattr(settings, "takes_more", False):
            commands.choices[settings.command].refuse_unknown(settings.more[0])
        settings.run(settings)
