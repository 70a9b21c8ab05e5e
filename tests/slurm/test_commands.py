"""Refusals before anything is submitted, arrays, and chains of jobs."""

from __future__ import annotations

import json
import sys
import time

import pytest

from tests.slurm.conftest import HOOKS, Jobs
from tests.support.commands import assert_one_line, result

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_refused_before_it_is_submitted(jobs: Jobs) -> None:
    words = jobs.words("refused")
    for options, parts in [
        (["--partition", "nope"], ("no partition nope", "low, main")),
        (["--gpus-per-node", 3], ("--gpus-per-node 3", "has 2 GPUs")),
        (["--nodes", 11], ("--nodes 11", "has 10")),
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
    array = json.loads((jobs.folder / "seeds" / "slurm" / "job.json").read_text())["job"]
    for task in range(4):
        assert jobs.cluster.wait(f"{array}_{task}", "COMPLETED", "FAILED", seconds=240)["JobState"] == "COMPLETED"
    table = jobs.hfscale("results", jobs.folder / "seeds", *(jobs.folder / name for name in _CHAIN)).stdout
    for task in range(4):
        accuracy = result(jobs.folder / "seeds" / f"seed-{task}")["metrics"]["accuracy"]
        line = next(line for line in table.splitlines() if f"seed-{task} " in line)
        assert f"{accuracy:.4f}" in line
    assert len(table.splitlines()) == 1 + 4 + 3 + 2


_CHAIN = ("first", "second", "third")


def test_cancelled(jobs: Jobs) -> None:
    """It saves, and stays cancelled."""
    (jobs.folder / "tried.yaml").write_text(f"venv: {sys.prefix}\nwarn_seconds: 30\n")
    words = [HOOKS, json.dumps({"slow_steps": 1.0}), *jobs.words("cancelled"), "--cluster", jobs.folder / "tried.yaml"]
    submitted = jobs.hfscale("submit", *words)
    assert "node       has the environment" in submitted.stdout, submitted.stderr
    number = json.loads((jobs.folder / "cancelled" / "slurm" / "job.json").read_text())["job"]
    jobs.disturb({"cancelled": lambda: None})
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
