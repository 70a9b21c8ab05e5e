"""Jobs that were submitted, by their run folder.

RUN/slurm/
|-- job.sh                 the batch script
|-- job.json               the job's number; in the folder around an array's runs, their names
|-- job.log                what the script says; node-*.log has what the processes say
`-- ended/JOB.RESTART/     how each process of each start ended: exit status and reason, one file per rank
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from hfscale import runs
from hfscale.errors import RunFolderError
from hfscale.files import write_json, write_text
from hfscale.schemas.slurm import ClusterSettings, JobSettings
from hfscale.slurm.client import GONE, call, job_facts
from hfscale.slurm.script import render

_LIVE = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD")
_LOST = "another process of the run had ended"
_FOLLOW = ("75", "lost", "0")
"""How processes end that don't explain how the others did, the more telling first."""


class Start(NamedTuple):
    """One start of a job that has ended, or is about to."""

    restart: int
    status: str
    """Of the processes: the one that explains the others."""
    reason: str


class Job(NamedTuple):
    """A job, or one task of an array."""

    number: str
    """As Slurm knows it: `12`, or `12_3`."""
    folder: Path
    """The run folder."""


def submit(cluster: ClusterSettings, job: JobSettings, after: str | None = None) -> str:
    """Put the script into the run folder and submit it; its number. `after`: a job that has to succeed before."""
    home = Path(job.run_folder) / "slurm"
    for task in [None, *(job.tasks or [])]:
        (Path(job.folder(task)) / "slurm").mkdir(parents=True, exist_ok=True)
    write_text(home / "job.sh", render(cluster, job))
    words = [f"--dependency=afterok:{after}", "--kill-on-invalid-dep=yes"] if after else []
    number = call("sbatch", "--parsable", *words, str(home / "job.sh")).split(";")[0]
    for index, task in enumerate(job.tasks or [None]):
        of_task = number if task is None else f"{number}_{index}"
        write_json(Path(job.folder(task)) / "slurm" / "job.json", {"job": of_task})
    if job.tasks:
        earlier = _record(Path(job.run_folder))["tasks"] if (home / "job.json").is_file() else []
        write_json(home / "job.json", {"tasks": list(dict.fromkeys([*earlier, *job.tasks]))})
    return number


def refuse_taken(job: JobSettings) -> None:
    """Two jobs must not have one run folder.

    Raises:
        RunFolderError: where a folder of the job has one that waits or runs, or belongs to the other kind of job.
    """
    whole = Path(job.run_folder)
    if (whole / "slurm" / "job.json").is_file() and ("tasks" in _record(whole)) != (job.tasks is not None):
        kind = "a single run" if job.tasks is not None else "an array's runs"
        raise RunFolderError(f"{whole} holds {kind}; choose another --train.output_dir")
    for folder in (Path(job.folder(task)) for task in job.tasks or [None]):
        if (folder / "slurm" / "job.json").is_file():
            number = _record(folder)["job"]
            if job_facts(number)["JobState"] in _LIVE:
                raise RunFolderError(
                    f"{folder} has a job already, {number}; choose another --train.output_dir, or `hfscale slurm "
                    f"cancel {folder}` first"
                )


def jobs_of(folder: Path) -> list[Job]:
    """The job of a run folder, or the tasks of an array's.

    Raises:
        RunFolderError: where no job was submitted for it.
    """
    record = _record(folder)
    if "tasks" not in record:
        return [Job(record["job"], folder)]
    return [Job(_record(folder / task)["job"], folder / task) for task in record["tasks"]]


def _record(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "slurm" / "job.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise RunFolderError(f"no Slurm job was submitted for {folder}") from None


def describe(job: Job) -> list[str]:
    """State, place in the run, time left, earlier starts, and why it ended: a line each."""
    facts = job_facts(job.number)
    state, done = facts["JobState"], runs.finished(job.folder)
    lines = [f"{'job':<11}{job.number}: {_state(facts)}"]
    if facts.get("Restarts", "0") != "0":
        lines[0] += f", started again {facts['Restarts']} times"
    lines.append(f"{'run':<11}{job.folder}: {f'complete, {done}' if done else _last_step(job.folder)}")
    for start in starts(job.folder):
        lines.append(f"{'start ' + str(start.restart):<11}{_reason(start)}")
    if not done and state not in (*_LIVE, "COMPLETED") and not starts(job.folder):
        lines.append(f"{'log':<11}{_last_line(job.folder)}")
    return lines


def _state(facts: dict[str, str]) -> str:
    state = facts["JobState"]
    if state == GONE:
        return "Slurm has forgotten it"
    if state == "RUNNING":
        return f"RUNNING on {facts.get('NodeList')}, {facts.get('RunTime')} of {facts.get('TimeLimit')}"
    if state == "PENDING":
        return f"PENDING ({facts.get('Reason')})"
    return f"{state}, exit status {facts.get('ExitCode', '?').split(':')[0]}"


def _reason(start: Start) -> str:
    if start.status in ("0", "lost"):
        return "done" if start.status == "0" else _LOST
    why = "told to stop, and saved" if start.status == "75" else start.reason or "see the logs"
    return f"exit status {start.status}: {why}"


def starts(folder: Path) -> list[Start]:
    """How the earlier starts ended, as far as their processes could say; the job's last submission only."""
    number = _record(folder)["job"]
    found = []
    for path in (folder / "slurm" / "ended").glob("*.*"):
        said = [_said(file) for file in sorted(path.glob("[0-9]*"), key=lambda file: int(file.name))]
        job, _, restart = path.name.rpartition(".")
        if said and job == number:
            status, reason = min(said, key=lambda each: _FOLLOW.index(each[0]) if each[0] in _FOLLOW else -1)
            found.append(Start(int(restart), status, reason))
    return sorted(found)


def _said(file: Path) -> tuple[str, str]:
    status, _, reason = file.read_text(encoding="utf-8", errors="replace").partition("\n")
    return status, reason.strip()


def _last_step(folder: Path) -> str:
    try:
        last = json.loads((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
        return f"step {last['step']}, loss {last['loss']:.4f}"
    except (OSError, ValueError, IndexError, KeyError, TypeError):
        return "no step yet"


def logs_of(folder: Path) -> list[Path]:
    """The batch script's and the nodes' logs."""
    home = folder / "slurm"
    above = folder.parent / "slurm"  # an array's tasks share the folder for what the script says
    number = _record(folder)["job"]
    own = above / f"job-{number}.log" if "_" in number else home / "job.log"
    nodes = sorted(home.glob("node-*.log"), key=lambda path: int(re.sub(r"\D", "", path.stem)))
    return [path for path in (own, *nodes) if path.is_file()]


def _last_line(folder: Path) -> str:
    lines = [
        line for path in logs_of(folder) for line in path.read_text(errors="replace").splitlines() if line.strip()
    ]
    return lines[-1] if lines else "nothing was said"


def cancel(folder: Path) -> str:
    """End the job of a run folder, or those of an array's runs; each run saves first. The numbers."""
    numbers = [job.number for job in jobs_of(folder)]
    call("scancel", *numbers)
    return ", ".join(numbers)
