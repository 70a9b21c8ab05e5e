"""Nodes that die or are cut off, and code that crashes."""

from __future__ import annotations

from functools import partial

import pytest

from tests.slurm.conftest import Jobs
from tests.slurm.test_survival import assert_equal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_a_node_is_lost(jobs: Jobs) -> None:
    """Powered off, cut off, and without its slurmd, where the processes live on: started elsewhere, one writer."""
    names = {"kill-node": "killed", "cut-node": "cut", "kill-slurmd": "headless"}
    numbers: dict[str, str] = {}
    lost = []

    def lose(order: str, name: str) -> None:
        # The first node: it has the batch script, and the process that writes.
        jobs.cluster.tell(order, jobs.cluster.job(numbers[name])["BatchHost"])

    for order, name in names.items():
        numbers[name] = jobs.submit(name, "--nodes", 2, model="dropout", slow_steps=2.0)
        lost.append(jobs.when_saved(name, partial(lose, order, name)))
    whole = jobs.submit("whole", "--nodes", 2, model="dropout")
    for each in lost:
        each.result()
    assert jobs.cluster.wait(whole, "COMPLETED", "FAILED", seconds=240)["JobState"] == "COMPLETED"
    for name, number in numbers.items():
        job = jobs.cluster.wait(number, "COMPLETED", "FAILED", "NODE_FAIL", seconds=300)
        assert job["JobState"] == "COMPLETED", f"{name}: {jobs.said(name)}"
        assert job["Restarts"] == "1", name
        assert "resumed    from step-" in jobs.said(name)
        assert_equal(jobs.folder / name, jobs.folder / "whole", 0)
    assert "was taken over by" in jobs.said("headless") + jobs.said("cut")
    # On the node that was cut off processes wait for an answer until `stall_seconds`, with the lock taken from them.
    for name in ("killed", "headless"):
        assert not jobs.cluster.processes(str(jobs.folder / name)), name


def test_a_crash_ends_the_job(jobs: Jobs) -> None:
    """With its own exit status; it is not queued again, and nothing of it stays."""
    number = jobs.submit("crash", "--nodes", 2, "--processes-per-node", 2, crash_in_training=(3, 9))
    job = jobs.cluster.wait(number, "COMPLETED", "FAILED", seconds=240)
    assert (job["JobState"], job["ExitCode"], job["Restarts"]) == ("FAILED", "1:0", "0"), jobs.said("crash")
    status = jobs.hfscale("status", jobs.folder / "crash").stdout
    assert "start 0    exit status 1: RuntimeError: a bug of this test" in status, status
    assert not jobs.cluster.processes(str(jobs.folder / "crash"))
