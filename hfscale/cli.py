"""The `hfscale` command: what can be done with a run."""

from __future__ import annotations

import argparse

from hfscale.commands import doctor, predict
from hfscale.errors import one_line

_COMMANDS = (predict, doctor)


def main(args: list[str] | None = None) -> None:
    """Entry point of `hfscale`; a user's mistake ends in one line and exit status 2."""
    parser = argparse.ArgumentParser(prog="hfscale", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in _COMMANDS:
        command.add_parser(commands)
    with one_line():
        settings = parser.parse_args(args)
        settings.run(settings)
