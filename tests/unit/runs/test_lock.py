"""One run folder, one run: who is refused, who takes over, and that the loser writes nothing more."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hfscale.errors import RunFolderError
from hfscale.runs.lock import LOCK, Owner, RunLock, is_dead, owner_of, read_owner
from tests.support.commands import ROOT

HOLDER = """
    import sys, time
    from pathlib import Path
    from hfscale.runs import lock
    lock.BEAT_SECONDS = 0.1
    lock.RunLock(Path(sys.argv[1])).acquire()
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Any:
    """A living process that holds `tmp_path`."""
    with holding(tmp_path) as process:
        yield process


@contextlib.contextmanager
def holding(run: Path, **environ: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(run)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environ}, **pipes) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def as_if(run: Path, **changed: Any) -> None:
    """Write the lock of an owner that differs from the real one."""
    held = read_owner(run)
    assert held is not None
    lock = RunLock(run)
    lock.owner = held[0]._replace(**changed)
    (run / LOCK).write_text(lock._content(held[1]))


def test_a_living_process_is_left_alone(tmp_path: Path, holder: Any) -> None:
    before = (tmp_path / LOCK).read_text().splitlines()[1]
    with pytest.raises(RunFolderError, match=f"is in use by process {holder.pid} on "):
        RunLock(tmp_path).acquire()
    assert (tmp_path / LOCK).read_text().splitlines()[1] == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK]
    owner = owner_of(tmp_path)
    assert owner is not None and owner.pid == holder.pid


def test_a_dead_process_holds_nothing(tmp_path: Path, holder: Any) -> None:
    holder.kill()
    holder.wait()
    assert (tmp_path / LOCK).exists() and owner_of(tmp_path) is None
    lock = RunLock(tmp_path)
    lock.acquire()
    lock.check()
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_was_given_again_is_another_process(tmp_path: Path, holder: Any) -> None:
    held = read_owner(tmp_path)
    assert held is not None and not is_dead(held[0])
    assert is_dead(held[0]._replace(started=held[0].started - 100))


def test_a_process_elsewhere_that_counts_is_alive(tmp_path: Path, holder: Any) -> None:
    """From another machine nobody can ask for the process; its count moves."""
    lock = RunLock(tmp_path)
    lock.owner = lock.owner._replace(place="elsewhere")
    start = time.monotonic()
    with pytest.raises(RunFolderError, match="is in use by"):
        lock.acquire(dead_seconds=30)
    assert time.monotonic() - start < 10


def test_a_process_elsewhere_that_counts_no_more_is_dead(
    tmp_path: Path, holder: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    holder.kill()
    holder.wait()
    as_if(tmp_path, place="another machine", host="node7")
    lock = RunLock(tmp_path)
    lock.acquire(dead_seconds=0.5)
    lock.check()
    lock.release()
    assert "waiting up to 0 s: is process" in capsys.readouterr().err


def test_a_later_start_of_the_same_job_takes_over_and_the_earlier_one_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm lost sight of a node, and started the job again elsewhere; the old start is still alive."""
    with holding(tmp_path, SLURM_JOB_ID="12") as old:
        monkeypatch.setenv("SLURM_JOB_ID", "12")
        with pytest.raises(RunFolderError, match="Slurm job 12"):
            RunLock(tmp_path).acquire()
        monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
        new = RunLock(tmp_path)
        new.acquire()
        assert old.wait(timeout=30) == 2
        assert old.stderr is not None and "was taken over by process" in old.stderr.read()
        new.check()
        new.release()


def test_another_job_does_not_take_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with holding(tmp_path, SLURM_JOB_ID="12"):
        monkeypatch.setenv("SLURM_JOB_ID", "13")
        monkeypatch.setenv("SLURM_RESTART_COUNT", "4")
        with pytest.raises(RunFolderError, match="is in use"):
            RunLock(tmp_path).acquire()


def test_the_loser_is_told_before_it_writes(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    lock.acquire()
    other = RunLock(tmp_path)
    (tmp_path / LOCK).unlink()
    with pytest.raises(RunFolderError, match="its folder was removed"):
        lock.check()
    other._create()
    with pytest.raises(RunFolderError, match="was taken over by process"):
        lock.check()
    lock.release()
    held = read_owner(tmp_path)
    assert held is not None and held[0].token == other.owner.token, "what is another's is not removed"


@pytest.mark.parametrize("content", ["", "12", "x\n{}", "1\n[]", "1\n{}"])
def test_a_lock_that_makes_no_sense_holds_nobody_up(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK).write_text(content)
    lock = RunLock(tmp_path)
    lock.acquire()
    lock.release()


def test_an_owner_in_words() -> None:
    assert str(Owner("t", "node1", "p", 12, 0.0, "77", 0)) == "process 12 on node1, Slurm job 77"
