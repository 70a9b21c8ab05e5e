"""The `hfscale` command: what can be done before a run and with one."""

from __future__ import annotations

import argparse

from hfscale.commands import compress, doctor, export, plan, predict, prune, push, slurm
from hfscale.errors import one_line

_COMMANDS = (plan, predict, compress, export, prune, push, doctor, slurm)


def main(args: list[str] | None = None) -> None:
    """Entry point of `hfscale`; a user's mistake ends in one line and exit status 2."""
    parser = argparse.ArgumentParser(prog="hfscale", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in _COMMANDS:
        command.add_parser(commands)
    with one_line():
        settings, settings.more = _parse(parser, args)
        settings.run(settings)


def _parse(parser: argparse.ArgumentParser, args: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """(settings, words that a command hands on): only a command that says so takes words it doesn't know."""
    settings, more = parser.parse_known_args(args)
    if more and not getattr(settings, "takes_more", False):
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    return settings, more
