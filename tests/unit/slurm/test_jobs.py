"""What is said of jobs, from what their processes left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hfscale.errors import RunFolderError
from hfscale.schemas.slurm import JobSettings
from hfscale.slurm import jobs, results


def left_behind(folder: Path, number: str, **said: list[str]) -> Path:
    """A run folder: how the processes of each start ended, by `JOB.RESTART`."""
    (folder / "slurm").mkdir(parents=True)
    (folder / "slurm" / "job.json").write_text(json.dumps({"job": number}))
    for start, words in said.items():
        home = folder / "slurm" / "ended" / start
        home.mkdir(parents=True)
        for rank, word in enumerate(words):
            (home / str(rank)).write_text(word + "\n")
    return folder


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (["0", "75"], "75"),
        (["0", "lost"], "lost"),
        (["lost", "75", "0"], "75"),
        (["75", "3\nwhy", "lost"], "3"),
        (["0"], "0"),
    ],
)
def test_the_process_that_explains_the_others(tmp_path: Path, said: list[str], status: str) -> None:
    [start] = jobs.starts(left_behind(tmp_path / "run", "7", **{"7.0": said}))
    assert start.status == status


def test_only_the_last_submission_counts(tmp_path: Path) -> None:
    """Also of one task of an array."""
    run = left_behind(tmp_path / "run", "12_1", **{"9_1.0": ["1"], "9_1.1": ["1"], "12_1.0": ["75"], "12_1.1": ["0"]})
    assert [(start.restart, start.status) for start in jobs.starts(run)] == [(0, "75"), (1, "0")]


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """States of jobs; what is submitted waits."""
    states: dict[str, str] = {}

    def sbatch(*_: Any) -> str:
        states[number := str(len(states) + 1)] = "PENDING"
        return number

    monkeypatch.setattr(jobs, "call", sbatch)
    monkeypatch.setattr(jobs, "job_facts", lambda number: {"JobState": states[number.partition("_")[0]]})
    return states


def test_a_second_array_in_the_same_folder(tmp_path: Path, slurm: dict[str, str]) -> None:
    """Its runs are added to the first one's; those that are waiting are not taken."""
    from hfscale.schemas.slurm import ClusterSettings

    def array(*names: str) -> JobSettings:
        return JobSettings(command=["x.py"], run_folder=str(tmp_path), tasks={name: [] for name in names})

    def submit(job: JobSettings) -> None:
        jobs.refuse_taken(job)
        jobs.submit(ClusterSettings(), job)

    submit(array("seed-0", "seed-1"))
    submit(array("seed-2"))
    assert [job.number for job in jobs.jobs_of(tmp_path)] == ["1_0", "1_1", "2_0"]
    with pytest.raises(RunFolderError, match=r"seed-1 has a job already, 1_1"):
        submit(array("seed-3", "seed-1"))
    slurm["1"] = "COMPLETED"
    submit(array("seed-1"))
    assert [job.number for job in jobs.jobs_of(tmp_path)] == ["1_0", "3_0", "2_0"]
    with pytest.raises(RunFolderError, match="holds an array's runs"):
        submit(JobSettings(command=["x.py"], run_folder=str(tmp_path)))


def test_a_result_without_metrics(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"steps": 3}')
    assert results.table([tmp_path]).splitlines()[1].split() == [str(tmp_path), "3"]
