"""What a person sees of an error, and the exit status that a script sees."""

from __future__ import annotations

import errno

import pytest

from hfscale.errors import (
    DataError,
    DivergedError,
    HfscaleError,
    LaunchError,
    MissingExtraError,
    ModelError,
    RunFolderError,
    SettingsError,
    did_you_mean,
    disk_problem,
    one_line,
)


def ended(error: BaseException) -> object:
    with pytest.raises(SystemExit) as caught, one_line():
        raise error
    return caught.value.code


@pytest.mark.parametrize(
    "kind, status",
    [
        (HfscaleError, 2),
        (SettingsError, 2),
        (DataError, 2),
        (ModelError, 2),
        (LaunchError, 2),
        (RunFolderError, 2),
        (MissingExtraError, 2),
        (DivergedError, 1),
    ],
)
def test_a_mistake_is_one_line(kind: type[HfscaleError], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(kind("a.csv line 3: wrong")) == status
    assert tuple(capsys.readouterr()) == ("", "error: a.csv line 3: wrong\n")


def test_an_interruption_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_full_disk_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(OSError(errno.ENOSPC, "No space left on device", "runs/x")) == 2
    assert capsys.readouterr().err == "error: the disk is full at runs/x; make room or choose another folder\n"


@pytest.mark.parametrize("error", [AssertionError("ours"), ZeroDivisionError(), FileNotFoundError(2, "gone", "x")])
def test_our_own_mistakes_come_through(error: Exception) -> None:
    with pytest.raises(type(error)), one_line():
        raise error


def test_no_error_ends_nothing() -> None:
    with one_line():
        pass


def test_a_rank_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "1")
    assert ended(DataError("wrong")) == 2
    assert capsys.readouterr().err == "[rank 1] error: wrong\n"


def test_a_settings_error_is_said_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "1")
    assert ended(SettingsError("wrong")) == 2
    assert capsys.readouterr().err == ""


def test_a_lost_neighbour_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lost = RuntimeError("[/gloo/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:1234")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert ended(lost) == 2
        assert "another process of this run has ended" in capsys.readouterr().err


@pytest.mark.parametrize(
    "number, words",
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EACCES, "no permission"),
        (errno.EPERM, "no permission"),
        (errno.EROFS, "the file system is read-only"),
    ],
)
def test_problems_of_the_disk(number: int, words: str) -> None:
    line = disk_problem(OSError(number, "whatever", "/data/x.bin"))
    assert line == f"{words} at /data/x.bin; make room or choose another folder"


@pytest.mark.parametrize(
    "text, words",
    [
        ("Error while serializing: I/O error: No space left on device (os error 28)", "the disk is full"),
        ("Disk quota exceeded (os error 122)", "the disk quota is used up"),
    ],
)
def test_problems_of_the_disk_that_rust_met(text: str, words: str) -> None:
    line = disk_problem(RuntimeError(text))
    assert line is not None and line.startswith(words)


def test_problems_of_the_disk_behind_other_errors() -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "x")
        except OSError as error:
            raise RuntimeError("could not save") from error
    except RuntimeError as error:
        assert disk_problem(error) == "the disk is full at x; make room or choose another folder"


@pytest.mark.parametrize("error", [ValueError("x"), FileNotFoundError(2, "gone"), ConnectionResetError(104, "reset")])
def test_other_errors_are_no_problem_of_the_disk(error: Exception) -> None:
    assert disk_problem(error) is None


def test_near_names() -> None:
    assert did_you_mean("lable", ["text", "label"]) == "; did you mean label?"
    assert did_you_mean("zzz", ["text", "label"]) == did_you_mean("x", []) == ""


def test_no_memory_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    class OutOfMemoryError(RuntimeError): ...

    for error in (OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")):
        with pytest.raises(SystemExit) as caught, one_line():
            raise error
        assert caught.value.code == 2
        assert "--train.micro_batch_size" in capsys.readouterr().err
