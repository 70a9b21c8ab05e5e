"""Jobs that are stopped, preempted or lose a node end with the model of one that was left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.slurm.conftest import STEPS, Jobs
from tests.support.commands import records, result
from tests.support.warm import WarmRun

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def assert_equal(run: Path, expected: Path, tolerance: float) -> None:
    assert [record["step"] for record in records(run)] == list(range(1, STEPS + 1))
    for record, other in zip(records(run), records(expected), strict=True):
        assert record["loss"] == pytest.approx(other["loss"], abs=tolerance, rel=0)
    weights, others = (load_file(folder / "model" / "model.safetensors") for folder in (run, expected))
    for name, weight in weights.items():
        torch.testing.assert_close(weight, others[name], atol=tolerance, rtol=0)


def test_nodes_train_what_one_process_trains(jobs: Jobs) -> None:
    numbers = {
        "two": jobs.submit("two", "--nodes", 2),
        "four": jobs.submit("four", "--nodes", 2, "--processes-per-node", 2),
    }
    alone = WarmRun(tuple(jobs.words("alone")), jobs.folder / "alone_log", {}).wait()
    assert alone.returncode == 0, alone.stderr
    for name, processes in (("two", 2), ("four", 4)):
        job = jobs.cluster.wait(numbers[name], "COMPLETED", "FAILED", seconds=240)
        assert job["JobState"] == "COMPLETED", jobs.said(name)
        assert result(jobs.folder / name)["num_processes"] == processes
        assert f"{processes} processes (MULTI_CPU)" in jobs.said(name)
        assert_equal(jobs.folder / name, jobs.folder / "alone", 1e-5)


@pytest.fixture(scope="module")
def undisturbed(jobs: Jobs) -> Path:
    number = jobs.submit("undisturbed", "--nodes", 2, model="dropout")
    assert jobs.cluster.wait(number, "COMPLETED", "FAILED", seconds=240)["JobState"] == "COMPLETED"
    return jobs.folder / "undisturbed"


def test_told_to_stop(jobs: Jobs, undisturbed: Path) -> None:
    """By USR1, scontrol, a job of a better partition, and the time limit: saved, queued again, and the same bits."""
    # The one that may be preempted comes last, so that none of the others takes its nodes.
    options = {"usr1": [], "requeued": [], "limit": ["--time", "2:00"], "preempted": ["--partition", "low"]}
    numbers: dict[str, str] = {}
    call = jobs.cluster.call

    def preempt() -> None:
        where = jobs.cluster.job(numbers["preempted"])["NodeList"]
        call("sbatch", "-p", "main", "-w", where, "-N", 2, "--exclusive", "-o", "/dev/null", "--wrap", "sleep 15")

    actions: dict[str, Callable[[], Any]] = {
        "usr1": lambda: call("scancel", "--signal=USR1", numbers["usr1"]),
        "requeued": lambda: call("scontrol", "requeue", numbers["requeued"]),
        "preempted": preempt,
    }
    disturbed = []
    for name, more in options.items():
        slow = 4.0 if name == "limit" else 1.0
        numbers[name] = jobs.submit(name, "--nodes", 2, *more, model="dropout", slow_steps=slow)
        if name in actions:
            disturbed.append(jobs.when_saved(name, actions[name]))
    for each in disturbed:
        each.result()
    for name, number in numbers.items():
        job = jobs.cluster.wait(number, "COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "PREEMPTED", seconds=480)
        assert job["JobState"] == "COMPLETED", f"{name}: {jobs.said(name)}"
        assert int(job["Restarts"]) >= 1, name
        assert "resumed    from step-" in jobs.said(name)
        assert "; saved in " in jobs.said(name), name
        assert_equal(jobs.folder / name, undisturbed, 0)
        status = jobs.hfscale("status", jobs.folder / name).stdout
        assert "start 0    exit status 75: told to stop, and saved" in status, status
