"""`hfscale slurm`: runs as jobs of a Slurm cluster."""

from __future__ import annotations

import argparse
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hfscale.errors import SettingsError

_FLAGS = {
    "--cluster": (str, "YAML file with the cluster's settings (by default slurm.yaml, where there is one)"),
    "--partition": (str, "partition, instead of the cluster file's"),
    "--account": (str, "account, instead of the cluster file's"),
    "--nodes": (int, "number of nodes (1)"),
    "--gpus-per-node": (int, "GPUs of each node; 0 trains on the CPU (0)"),
    "--processes-per-node": (int, "processes on each node (one per GPU, or one)"),
    "--time": (str, "time limit of one start, as in 12:00:00"),
    "--name": (str, "name of the job (the recipe's)"),
    "--accelerate-config": (str, "`accelerate launch` settings file, as for ZeRO"),
    "--vary": (str, "KEY=A,B,...: one run for each value, as an array; may be given more than once"),
    "--at-once": (int, "runs of an array at the same time"),
}
_OF_CLUSTER = ("partition", "account")
_THEN = "--then"


def add_parser(commands: Any) -> None:
    """Add the commands to those of `hfscale`."""
    parser = commands.add_parser(
        "slurm", help="runs as jobs of a Slurm cluster", description="Runs as jobs of a Slurm cluster."
    )
    actions = parser.add_subparsers(dest="action", required=True)
    for name, run, words in (("submit", _submit, "submit a run"), ("render", _render, "print the batch script")):
        action = actions.add_parser(
            name,
            help=words,
            usage=f"hfscale slurm {name} RECIPE [SETTINGS OF THE RECIPE] [OPTIONS] [--then RECIPE ...]",
            description=f"{words.capitalize()}. --then RECIPE begins another job, to start once that is done.",
        )
        for flag, (kind, text) in _FLAGS.items():
            action.add_argument(flag, type=kind, help=text, action="append", default=[])
        action.set_defaults(run=run, takes_more=True)
    for name, run, text in (
        ("status", _status, "state, step, loss, restarts and why, of a run folder's job"),
        ("logs", _logs, "what its script and its processes said"),
        ("cancel", _cancel, "end it; the run saves first"),
        ("results", _results, "one table of an array's, or of several folders', results"),
    ):
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        nargs = "+" if name == "results" else 1
        action.add_argument("folders", metavar="RUN", type=Path, nargs=nargs, help="run folder, or an array's")
        action.set_defaults(run=run)


def _stages(settings: argparse.Namespace) -> list[tuple[Any, Any, dict[str, Any]]]:
    """(cluster, job, settings of the recipe) of each part between two `--then`; Slurm's flags hold for all of them.

    The recipe is asked about the settings of every task of an array.
    """
    from hfscale.slurm.preflight import recipe_settings

    tasks = _tasks(settings.vary)
    varied = list(tasks.values()) if tasks else [[]]
    stages = []
    words = settings.more
    cuts = [-1, *(i for i, word in enumerate(words) if word == _THEN), len(words)]
    for begin, end in itertools.pairwise(cuts):
        command = words[begin + 1 : end]
        if not command:
            raise SettingsError("which recipe? hfscale slurm submit recipes/finetune_bert.py ...")
        if command[0].startswith("-"):
            raise SettingsError(f"the recipe comes before its settings, not {command[0]}")
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = list(pool.map(recipe_settings, ([*command, *words] for words in varied)))
        stages.append((command, found[0]))
    folders = [found["train"]["output_dir"] for _, found in stages]
    if len(set(folders)) < len(folders):
        raise SettingsError("two of the jobs have one train.output_dir; give each its own")
    return [
        (*_settings(settings, command, folder, tasks), found)
        for (command, found), folder in zip(stages, folders, strict=True)
    ]


def _settings(
    settings: argparse.Namespace, command: list[str], folder: str, tasks: dict[str, list[str]] | None
) -> tuple[Any, Any]:
    from hfscale.config import parse_config
    from hfscale.schemas.slurm import ClusterSettings, JobSettings

    given: dict[str, Any] = {}
    for flag in _FLAGS:
        name = flag[2:].replace("-", "_")
        values = getattr(settings, name)
        if name != "vary" and len(values) > 1:
            raise SettingsError(f"{flag} is given {len(values)} times; keep one")
        if values and name != "vary":
            given[name] = values[0]
    path = given.pop("cluster", "slurm.yaml" if Path("slurm.yaml").is_file() else None)
    own = [f"--{name}={given.pop(name)}" for name in _OF_CLUSTER if name in given]
    cluster = parse_config(ClusterSettings, [*([f"--config={path}"] if path else []), *own])
    given.setdefault("name", Path(command[0]).stem)
    try:
        return cluster, JobSettings(command=command, run_folder=folder, tasks=tasks, **given)
    except ValueError as error:
        raise SettingsError(str(error)) from None


def _tasks(varied: list[str]) -> dict[str, list[str]] | None:
    """The runs of an array by the name of their folder: each value of each key with each of the others."""
    if not varied:
        return None
    axes: list[list[tuple[str, str]]] = []
    for text in varied:
        key, equals, values = text.partition("=")
        if not (key and equals and all(values.split(","))):
            raise SettingsError(f"--vary {text}: write KEY=A,B,... as in train.seed=0,1,2")
        if key == "train.output_dir" or any(axis[0][0] == key for axis in axes):
            why = "is given twice" if key != "train.output_dir" else "is each run's own, in the folder of the array"
            raise SettingsError(f"--vary {text}: {key} {why}")
        axes.append([(key, value) for value in values.split(",")])
    tasks: dict[str, list[str]] = {}
    for chosen in itertools.product(*axes):
        name = "_".join(f"{key.rpartition('.')[2]}-{value.replace('/', '-')}" for key, value in chosen)
        if name in tasks:
            raise SettingsError(
                f"--vary: two runs would have the folder {name}; give values that differ in their names"
            )
        tasks[name] = [word for key, value in chosen for word in (f"--{key}", value)]
    return tasks


def _render(settings: argparse.Namespace) -> None:
    import sys

    from hfscale.slurm.script import render

    sys.stdout.write("\n".join(render(cluster, job) for cluster, job, _ in _stages(settings)))


def _submit(settings: argparse.Namespace) -> None:
    from hfscale import console
    from hfscale.slurm import jobs, preflight
    from hfscale.slurm.client import call

    call("sinfo", "--version")
    stages = _stages(settings)
    for stage in stages:
        jobs.refuse_taken(stage[1])
        preflight.check(*stage)
    after = None
    for cluster, job, _ in stages:
        waits = f", after job {after}" if after else ""
        after = jobs.submit(cluster, job, after)
        console.say(f"{'submitted':<11}job {after}{waits}; hfscale slurm status {job.run_folder}")


def _status(settings: argparse.Namespace) -> None:
    from hfscale import console
    from hfscale.slurm import jobs

    for job in jobs.jobs_of(settings.folders[0]):
        console.say("\n".join(jobs.describe(job)))


def _logs(settings: argparse.Namespace) -> None:
    from hfscale import console
    from hfscale.slurm import jobs

    for job in jobs.jobs_of(settings.folders[0]):
        for path in jobs.logs_of(job.folder):
            console.say(f"==> {path} <==\n{path.read_text(errors='replace').rstrip()}")


def _cancel(settings: argparse.Namespace) -> None:
    from hfscale import console
    from hfscale.slurm import jobs

    console.say(f"{'cancelled':<11}{jobs.cancel(settings.folders[0])}; what was saved stays")


def _results(settings: argparse.Namespace) -> None:
    from hfscale import console
    from hfscale.slurm import results

    console.say(results.table(results.run_folders(settings.folders)))
