"""Errors that a user can act on, and how they reach the terminal.

    HfscaleError              a user's mistake: one line, exit status 2
    |-- SettingsError         an unknown key, a wrong type, settings that contradict each other
    |-- DataError             a missing file or column, a broken row, an unknown label
    |-- ModelError            a model that can't be found, verified or used for the task
    |-- LaunchError           processes that were started in a way that can't train correctly
    |-- RunFolderError        an output folder that is taken or can't be written
    |-- HubError              a push that the Hub refuses, that can't reach it, or that would publish too much
    |-- MissingExtraError     an optional library that is not installed
    |-- DivergedError         the loss or the gradient stopped being finite; exit status 1
    `-- AlreadyDone           no mistake: the run is complete, there is nothing to do; exit status 0

    Interrupted               somebody told the run to stop; exit status 75: start me again

Our own mistakes are assertions and tracebacks; they are never caught here.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import signal
import sys
import threading
from collections.abc import Generator, Iterable
from types import FrameType


class HfscaleError(Exception):
    """A mistake that its one-line message tells how to mend."""

    exit_status = 2


class SettingsError(HfscaleError):
    """Settings that are unknown, of the wrong type, or contradict each other."""


class DataError(HfscaleError):
    """Data that can't be found, read or used; names the file and the line."""


class ModelError(HfscaleError):
    """A model that can't be found, verified or used for the task."""


class LaunchError(HfscaleError):
    """Processes started in a way that can't train correctly."""


class RunFolderError(HfscaleError):
    """An output folder that is taken or can't be written."""


class HubError(HfscaleError):
    """A push that the Hub refuses, that can't reach it, or that would publish what has to stay at home."""


class MissingExtraError(HfscaleError):
    """An optional library that is not installed; names the extra that brings it."""


class DivergedError(HfscaleError):
    """The loss or the gradient stopped being finite."""

    exit_status = 1


class AlreadyDone(HfscaleError):
    """The run is complete, and the same command has nothing left to do."""

    exit_status = 0


class Interrupted(BaseException):
    """Somebody told the run to stop. Like KeyboardInterrupt no `Exception`, so that no library swallows it."""

    exit_status = 75
    """`EX_TEMPFAIL` of sysexits.h, for schedulers: nothing is lost, and the same command goes on."""


_DISK_ERRORS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EROFS: "the file system is read-only",
}
# What libraries written in Rust and C++ say instead of raising OSError.
_DISK_TEXTS = {"No space left on device": errno.ENOSPC, "Disk quota exceeded": errno.EDQUOT}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`"; did you mean X?"` for the nearest known name, or an empty string when none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def disk_errno(error: BaseException) -> int | None:
    """The number of a disk that is full or forbidden, whatever library met it; None for any other error."""
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return error.errno
    return next((number for text, number in _DISK_TEXTS.items() if text in str(error)), None)


def disk_problem(error: BaseException) -> str | None:
    """One line for a disk that is full or forbidden, also behind another error; None for any other error."""
    seen: BaseException | None = error
    while seen is not None:
        code = disk_errno(seen)
        if code is not None:
            where = f" at {seen.filename}" if isinstance(seen, OSError) and seen.filename else ""
            return f"{_DISK_ERRORS[code]}{where}; make room or choose another folder"
        seen = seen.__cause__ or seen.__context__
    return None


def _memory_problem(error: BaseException) -> str | None:
    """One line for a GPU or a machine without enough memory, by name: torch is not imported here."""
    if type(error).__name__ != "OutOfMemoryError" and "can't allocate memory" not in str(error):
        return None
    return (
        "out of memory; try a smaller --train.micro_batch_size (the global batch stays as it is), "
        "--train.eval_batch_size or --data.max_length"
    )


def _lost_contact(error: BaseException) -> bool:
    """True where a collective failed because another process of this run has ended first."""
    text = str(error)
    return "Connection closed by peer" in text or "Connection reset by peer" in text


def _exit_on_sigterm(_number: int, _frame: FrameType | None) -> None:
    """End through the clean-up code, so that what is half-done is taken back."""
    sys.stderr.write("terminated\n")
    sys.exit(128 + signal.SIGTERM)


@contextlib.contextmanager
def one_line() -> Generator[None]:
    """Turn what a user can mend into one line on stderr and an exit status; let our own mistakes through.

    Raises:
        SystemExit: with the error's exit status (2; 1 when diverged, 75 when told to stop, 130 when stopped at once).
    """
    with _saying_how_it_ended(), _one_line(int(os.environ.get("RANK", "0"))):
        yield


@contextlib.contextmanager
def _saying_how_it_ended() -> Generator[None]:
    """Leave exit status and reason in `$HFSCALE_ENDED`, a folder, under this process's rank: launchers turn every
    status but 0 into 1, and a batch script has to know which runs to start again."""
    status, reason = "1", ""
    try:
        yield
        status = "0"
    except SystemExit as end:
        cause = end.__context__
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        status = "lost" if cause is not None and _lost_contact(cause) else str(code)
        reason = str(cause or "")
        raise
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}"
        raise
    finally:
        folder = os.environ.get("HFSCALE_ENDED")
        if folder:
            text = f"{status}\n{' '.join(reason.split())}\n".encode(errors="backslashreplace")
            with contextlib.suppress(OSError), open(os.path.join(folder, os.environ.get("RANK", "0")), "wb") as file:
                file.write(text)


@contextlib.contextmanager
def _one_line(rank: int) -> Generator[None]:
    prefix = f"[rank {rank}] " if rank else ""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _exit_on_sigterm)
    try:
        yield
    except SettingsError as error:  # the same on every process: said once
        if rank == 0:
            sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_status)
    except AlreadyDone as done:
        if rank == 0:
            sys.stdout.write(f"{done}\n")
        sys.exit(done.exit_status)
    except HfscaleError as error:
        sys.stderr.write(f"{prefix}error: {error}\n")
        sys.exit(error.exit_status)
    except Interrupted as stop:
        if rank == 0:
            sys.stderr.write(f"{stop}\n")
        sys.exit(stop.exit_status)
    except KeyboardInterrupt:
        sys.stderr.write(f"{prefix}interrupted\n")
        sys.exit(130)
    except Exception as error:
        line = disk_problem(error) or _memory_problem(error)
        if line is None and _lost_contact(error):
            line = "stopped, because another process of this run has ended"
        if line is None:
            raise
        sys.stderr.write(f"{prefix}error: {line}\n")
        sys.exit(2)
