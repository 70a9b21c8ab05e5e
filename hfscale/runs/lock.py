"""One run folder, one run: a lock that no dead process holds, on any file system that several machines share.

`RUN/.lock` names its owner. The owner holds the file open and writes a count into it every few seconds. Another
process may take the run over, by putting a file of its own in that place,

- at once, where the owner ran on this machine and is dead, or is an earlier start of the same Slurm job: Slurm starts
  a job again elsewhere when it loses sight of a node, and what ran there may go on for a while;
- where the count stands still for a minute, from any other machine. Only the watcher's own clock is used.

An owner that finds another name in its lock ends at once: it must not write any more. Advisory locks of the operating
system (flock) would do for one machine, but network file systems forget or ignore them.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from hfscale.errors import RunFolderError
from hfscale.files import write_text

LOCK = ".lock"
BEAT_SECONDS = 5.0
DEAD_SECONDS = 60.0
_COUNT_WIDTH = 12
_SETTLE_SECONDS = 0.2


class Owner(NamedTuple):
    """Who holds a run folder."""

    token: str
    host: str
    place: str
    """Machine, boot and process name space: where a process number means something."""
    pid: int
    started: float
    """When the process began, in ticks since the machine did; tells it from a later one of the same number."""
    job: str | None
    """Slurm's number of the job."""
    restarts: int
    """How often Slurm has started the job again."""

    def __str__(self) -> str:
        job = f", Slurm job {self.job}" if self.job else ""
        return f"process {self.pid} on {self.host}{job}"


def this_process() -> Owner:
    """A new owner for this process."""
    job = os.environ.get("SLURM_JOB_ID")
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0") or "0")
    return Owner(uuid.uuid4().hex, socket.gethostname(), _place(), os.getpid(), _started(os.getpid()), job, restarts)


def read_owner(run: Path) -> tuple[Owner, int] | None:
    """(who holds the run, its count), or None where nobody does."""
    try:
        count, content = (run / LOCK).read_text(encoding="utf-8").split("\n", 1)
        return Owner(**json.loads(content)), int(count)
    except (FileNotFoundError, ValueError, TypeError):
        return None


def owner_of(run: Path) -> Owner | None:
    """Who holds the run, as far as this machine can tell: None where nobody does, or a process that is dead."""
    held = read_owner(run)
    return None if held is None or is_dead(held[0]) else held[0]


def is_dead(owner: Owner) -> bool:
    """Whether the owner ran where this process runs, and does so no more."""
    return owner.place == _place() and _started(owner.pid) != owner.started


class RunLock:
    """Holds a run folder for this process from `acquire` to `release`."""

    def __init__(self, run: Path) -> None:
        self._path, self._run = run / LOCK, run
        self.owner = this_process()
        self._released = threading.Event()
        self._file: Any = None
        self._beats: threading.Thread | None = None

    def acquire(self, dead_seconds: float = DEAD_SECONDS) -> None:
        """Take the folder, from a dead owner if need be.

        Raises:
            RunFolderError: where another process holds it.
        """
        if not self._create():
            held = read_owner(self._run)
            if held is not None and held[0].pid == self.owner.pid and held[0].place == self.owner.place:
                held = None  # this very process, which has begun another run in the same folder
            lives = held is not None and not is_dead(held[0])
            if held is not None and lives and not self._is_later_start(held[0]):
                self._watch(*held, dead_seconds)
            write_text(self._path, self._content())
            # Of two that do this at once the later one stays; an earlier start that lives finds out, and ends.
            time.sleep(2 * BEAT_SECONDS + 1 if lives else _SETTLE_SECONDS)
        self.check()
        self._file = open(self._path, "r+", encoding="utf-8")  # noqa: SIM115  (held until `release`)
        self._beats = threading.Thread(target=self._beat, name="run lock", daemon=True)
        self._beats.start()

    def check(self) -> None:
        """Raises `RunFolderError` where another process has taken the run over."""
        held = read_owner(self._run)
        if held is None or held[0].token != self.owner.token:
            by = f"by {held[0]}" if held else "or its folder was removed"
            raise RunFolderError(f"the run in {self._run} was taken over {by}; this process writes nothing more")

    def release(self) -> None:
        """Let the folder go, if it is still ours."""
        self._released.set()
        if self._beats is not None:
            self._beats.join()
            self._file.close()
        held = read_owner(self._run)
        if held is not None and held[0].token == self.owner.token:
            self._path.unlink(missing_ok=True)

    def _content(self, count: int = 0) -> str:
        return f"{count:0{_COUNT_WIDTH}d}\n{json.dumps(self.owner._asdict())}\n"

    def _create(self) -> bool:
        """Put the lock there if there is none: written first, so that nobody ever reads half of it."""
        temporary = self._path.with_name(f"{LOCK}.{self.owner.token}.tmp")
        write_text(temporary, self._content())
        try:
            os.link(temporary, self._path)
            return True
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            try:
                with open(self._path, "x", encoding="utf-8") as file:
                    file.write(self._content())
                return True
            except FileExistsError:
                return False
        finally:
            temporary.unlink(missing_ok=True)

    def _is_later_start(self, owner: Owner) -> bool:
        return owner.job is not None and owner.job == self.owner.job and owner.restarts < self.owner.restarts

    def _watch(self, owner: Owner, count: int, dead_seconds: float) -> None:
        """Return when the owner's count has stood still long enough; complain as soon as it moves."""
        alive = RunFolderError(
            f"{self._run} is in use by {owner}; choose another --train.output_dir, or wait until it has ended"
        )
        if owner.place == self.owner.place:
            raise alive
        end = time.monotonic() + dead_seconds
        sys.stderr.write(f"waiting up to {dead_seconds:.0f} s: is {owner}, which holds {self._run}, alive?\n")
        while time.monotonic() < end:
            time.sleep(min(1.0, dead_seconds / 10))
            held = read_owner(self._run)
            if held is None:
                return
            if held[0].token != owner.token or held[1] != count:
                raise alive

    def _beat(self) -> None:
        """Count, and end the process when the lock is another's: it may hang in anything, and must not come back."""
        count = 0
        while not self._released.wait(BEAT_SECONDS):
            count += 1
            try:
                self._file.seek(0)
                self._file.write(f"{count:0{_COUNT_WIDTH}d}")
                self._file.flush()
                os.fsync(self._file.fileno())
                self.check()
            except RunFolderError as error:
                if self._released.is_set():
                    return
                sys.stderr.write(f"error: {error}\n")
                sys.stderr.flush()
                os._exit(error.exit_status)
            except OSError:  # a file system that is away for a moment
                continue


def _started(pid: int) -> float:
    """Ticks of the kernel, which no change of the clock moves; 0 for a process that is no more."""
    try:
        return float(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    except OSError:
        pass
    import psutil  # where there is no /proc

    try:
        return 0.0 if Path("/proc/self/stat").exists() else round(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return 0.0


def _place() -> str:
    parts = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            parts.append(os.readlink(path) if path.startswith("/proc/self") else Path(path).read_text().strip())
        except OSError:
            continue
    return " ".join(parts)
