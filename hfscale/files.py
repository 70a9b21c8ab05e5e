"""Writing files so that a reader sees the old content or the new one, never a part, also after a power failure."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

from hfscale.errors import disk_errno

_UMASK = os.umask(0)  # can only be read by setting it, for all threads: once, before there are any
os.umask(_UMASK)
_LEFTOVER = re.compile(r"\.(?P<name>.+)\.[0-9a-f]+\.(?P<kind>tmp|old)")


@contextlib.contextmanager
def naming(path: Path) -> Generator[None]:
    """Let a full or closed disk be reported with the path that was being written: the system's own error has none."""
    try:
        yield
    except Exception as error:
        code = disk_errno(error)
        if code is None:
            raise
        raise OSError(code, os.strerror(code), str(path)) from error


def write_text(path: Path, text: str) -> None:
    """Replace `path` with `text` in one step; on failure the old file stays and nothing else is left behind."""
    temporary = _passing(path, "tmp")
    try:
        with naming(path), open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """`write_text` of indented JSON; NaN and infinity are refused, because other readers can't parse them."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def sync(path: Path) -> None:
    """Wait until the disk has a file's content, or a folder's list of names."""
    with naming(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Generator[Path]:
    """Give a temporary folder to fill; it becomes `path` when the block ends, or vanishes when the block fails.

    Its files are on the disk before it gets its name, and the name is before this ends.
    """
    with _beside(path) as temporary:
        with naming(path):
            yield temporary
        _open_to_readers(temporary)
        for inside in (*temporary.rglob("*"), temporary):
            sync(inside)
        old = _passing(path, "old")
        if path.exists():
            os.rename(path, old)
        try:
            os.rename(temporary, path)
        except BaseException:
            if old.exists():
                os.rename(old, path)
            raise
        sync(path.parent)
        shutil.rmtree(old, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove a folder that is gone at once for whoever looks, though its files take their time."""
    gone = _passing(path, "tmp")
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, gone)
        shutil.rmtree(gone, ignore_errors=True)


def _passing(path: Path, kind: str) -> Path:
    """A name beside `path` that no other process has, not even one of the same number on another machine."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.{kind}")


def clear_leftovers(folder: Path) -> None:
    """Take back what processes that were killed left half-done in a folder, which no living one may be writing to."""
    for path in folder.glob(".*"):
        parts = _LEFTOVER.fullmatch(path.name)
        if parts is None:
            continue
        target = path.with_name(parts["name"])
        if parts["kind"] == "old" and not target.exists():
            os.rename(path, target)  # killed between the two renames of `replacing_folder`
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def making_folder(path: Path) -> Generator[Path]:
    """Give a temporary folder to fill; it becomes `path` when the block ends, unless another process was first."""
    with _beside(path) as temporary:
        with naming(path):
            yield temporary
        try:
            os.rename(temporary, path)
        except OSError:
            if not path.is_dir():
                raise


@contextlib.contextmanager
def _beside(path: Path) -> Generator[Path]:
    """A new folder on the same disk as `path`; what is left of it at the end is removed."""
    temporary = _passing(path, "tmp")
    try:
        with naming(path):
            temporary.mkdir(parents=True)
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _open_to_readers(folder: Path) -> None:
    """Give all files the permissions that this process's new files have; safetensors writes its own as 0600."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o666 & ~_UMASK)
