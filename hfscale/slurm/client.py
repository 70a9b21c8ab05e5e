"""Slurm's own commands."""

from __future__ import annotations

import re
import subprocess

from hfscale.errors import LaunchError

GONE = "GONE"
"""State of a job that Slurm has forgotten."""


def call(*words: str, seconds: float = 60) -> str:
    """What one of Slurm's commands says, within so many seconds.

    Raises:
        LaunchError: where there is no such command, or it refuses; with its own words in one line.
    """
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=seconds)
    except FileNotFoundError:
        raise LaunchError(
            f"no Slurm on this machine: there is no {words[0]}; log in to the cluster, or write the script with "
            "`hfscale slurm render`"
        ) from None
    except subprocess.TimeoutExpired:
        raise LaunchError(f"{words[0]} has not answered in {seconds:.0f} seconds; is Slurm's controller up?") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise LaunchError(f"{words[0]} refused: {said}")
    return done.stdout.strip()


def job_facts(number: str) -> dict[str, str]:
    """What `scontrol show job` says of a job, or of one task as in `12_3`; of an unknown one its state alone."""
    try:
        said = call("scontrol", "--oneliner", "show", "job", number)
    except LaunchError as error:
        if "Invalid job id" not in str(error):
            raise
        return {"JobState": GONE}
    return dict(re.findall(r"(\w+)=(\S*)", said.splitlines()[0]))


def seconds(time: str) -> int | None:
    """Seconds of a time limit as Slurm writes it (`30` and `30:00` are half an hour); None for `infinite`."""
    if not re.fullmatch(r"[\d:-]+", time):
        return None
    days, _, clock = time.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if days:
        hours, minutes, rest = [*parts, 0, 0][:3]
        return ((int(days) * 24 + hours) * 60 + minutes) * 60 + rest
    hours, minutes, rest = (0, *parts, 0) if len(parts) == 1 else (0, *parts) if len(parts) == 2 else parts
    return (hours * 60 + minutes) * 60 + rest
