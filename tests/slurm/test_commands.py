"""Refusals before anything is submitted, arrays, and chains of jobs."""

from __future__ import annotations

import json
import shutil
import sys
import time

import pytest

from tests.slurm.conftest import HOOKS, NODES, Jobs
from tests.support.commands import assert_one_line, result

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_refused_before_it_is_submitted(jobs: Jobs) -> None:
    words = jobs.words("refused")
    for options, parts in [
        (["--partition", "nope"], ("no partition nope", "low, main")),
        (["--gpus-per-node", 3], ("--gpus-per-node 3", "has 2 GPUs")),
        (["--nodes", NODES + 1], (f"--nodes {NODES + 1}", f"has {NODES}")),
        (["--time", "0:30"], ("warn_seconds",)),
        (["--train.output_dir", "/proc/run"], ("can't write run folder /proc/run",)),
    ]:
        assert_one_line(jobs.hfscale("submit", *words, *options), *parts)
    (jobs.folder / "empty.yaml").write_text(f"venv: {jobs.folder}\n")
    assert_one_line(jobs.hfscale("submit", *words, "--cluster", jobs.folder / "empty.yaml"), "has no bin/python")
    (jobs.folder / "broken.yaml").write_text(f"venv: {sys.prefix}\nvariables: [PYTHONHOME=/nowhere]\n")
    broken = jobs.hfscale("submit", *words, "--cluster", jobs.folder / "broken.yaml")
    assert broken.returncode == 2
    assert "error: the environment doesn't work on a node (srun refused: " in broken.stderr.splitlines()[-1]
    assert_one_line(jobs.hfscale("status", jobs.folder / "refused"), "no Slurm job was submitted")
    assert not (jobs.folder / "refused" / "slurm" / "job.json").exists()


def test_a_chain_an_array_and_a_cancelled_job(jobs: Jobs) -> None:
    cluster = ["--cluster", jobs.folder / "slurm.yaml"]
    seeds = jobs.hfscale("submit", *jobs.words("seeds"), *cluster, "--vary", "train.seed=0,1,2,3", "--at-once", 2)
    assert seeds.returncode == 0, seeds.stderr
    first, second, third = jobs.words("first"), jobs.words("second", "first"), jobs.words("third", "second")
    chain = jobs.hfscale("submit", *first, "--then", *second, "--then", *third, *cluster)
    assert chain.returncode == 0, chain.stderr
    numbers = [json.loads((jobs.folder / name / "slurm" / "job.json").read_text())["job"] for name in _CHAIN]
    assert f"afterok:{numbers[0]}" in jobs.cluster.job(numbers[1])["Dependency"]
    assert "PENDING (Dependency)" in jobs.hfscale("status", jobs.folder / "third").stdout
    ended = [jobs.cluster.wait(number, "COMPLETED", "FAILED", seconds=280) for number in numbers]
    assert [job["JobState"] for job in ended] == ["COMPLETED"] * 3
    for task in range(4):
        number = json.loads((jobs.folder / "seeds" / f"seed-{task}" / "slurm" / "job.json").read_text())["job"]
        assert number.endswith(f"_{task}")
        assert jobs.cluster.wait(number, "COMPLETED", "FAILED", seconds=240)["JobState"] == "COMPLETED"
    table = jobs.hfscale("results", jobs.folder / "seeds", *(jobs.folder / name for name in _CHAIN)).stdout
    for task in range(4):
        accuracy = result(jobs.folder / "seeds" / f"seed-{task}")["metrics"]["accuracy"]
        line = next(line for line in table.splitlines() if f"seed-{task} " in line)
        assert f"{accuracy:.4f}" in line
    assert len(table.splitlines()) == 1 + 4 + 3 + 2


_CHAIN = ("first", "second", "third")


def test_one_task_of_an_array_is_stopped(jobs: Jobs) -> None:
    """The last one, whose job number is the array's own: others that run, or have failed, are left alone."""
    names = [jobs.folder / f"rows{number}.csv" for number in range(3)]
    for name in names[1:]:
        shutil.copy(jobs.folder / "rows.csv", name)  # the first one finds no file, and fails
    words = [HOOKS, json.dumps({"slow_steps": 1.0}), *jobs.words("tasks"), "--cluster", jobs.folder / "slurm.yaml"]
    submitted = jobs.hfscale("submit", *words, "--vary", f"data.train={','.join(map(str, names))}")
    assert submitted.returncode == 0, submitted.stderr
    folders = json.loads((jobs.folder / "tasks" / "slurm" / "job.json").read_text())["tasks"]
    numbers = [
        json.loads((jobs.folder / "tasks" / each / "slurm" / "job.json").read_text())["job"] for each in folders
    ]
    assert jobs.cluster.wait(numbers[0], "FAILED", seconds=240)["ExitCode"] == "2:0"
    stop = ["scancel", "--batch", "--signal=USR1", numbers[2]]
    jobs.disturb(f"tasks/{folders[2]}", lambda: jobs.cluster.call(*stop))
    ended = [jobs.cluster.wait(number, "COMPLETED", "FAILED", seconds=240) for number in numbers]
    assert [job["JobState"] for job in ended] == ["FAILED", "COMPLETED", "COMPLETED"]
    assert [job["Restarts"] for job in ended] == ["0", "0", "1"]
    assert "start 0    exit status 75: told to stop, and saved" in jobs.hfscale("status", jobs.folder / "tasks").stdout
    assert "resumed    from step-" in jobs.said(f"tasks/{folders[2]}")


def test_cancelled(jobs: Jobs) -> None:
    """It saves, and stays cancelled."""
    (jobs.folder / "tried.yaml").write_text(f"venv: {sys.prefix}\nwarn_seconds: 30\n")
    words = [HOOKS, json.dumps({"slow_steps": 1.0}), *jobs.words("cancelled"), "--cluster", jobs.folder / "tried.yaml"]
    submitted = jobs.hfscale("submit", *words)
    assert "node       has the environment" in submitted.stdout, submitted.stderr
    number = json.loads((jobs.folder / "cancelled" / "slurm" / "job.json").read_text())["job"]
    jobs.disturb("cancelled", lambda: None)
    assert "RUNNING on node" in jobs.hfscale("status", jobs.folder / "cancelled").stdout
    again = jobs.hfscale("submit", *jobs.words("cancelled"), "--cluster", jobs.folder / "slurm.yaml")
    assert_one_line(again, "has a job already")
    assert jobs.hfscale("cancel", jobs.folder / "cancelled").returncode == 0
    job = jobs.cluster.wait(number, "CANCELLED", seconds=60)
    assert job["Restarts"] == "0"
    end = time.monotonic() + 30  # the job counts as cancelled while its processes are saving
    while "; saved in " not in (said := jobs.said("cancelled")):
        assert time.monotonic() < end, said
        time.sleep(0.5)
