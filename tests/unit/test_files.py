"""A reader sees the old content or the new one, and a failure leaves nothing behind."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from hfscale.files import making_folder, replacing_folder, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "ä\nold and long\n")
    write_text(path, "neu\n")
    assert path.read_bytes() == b"neu\n"
    assert names(tmp_path) == ["a.txt"]


def test_a_failed_write_keeps_the_old_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "x" * 100_000 + "\ud800")
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_a_write_onto_a_folder_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError):
        write_text(tmp_path / "a", "x")
    assert names(tmp_path) == ["a"]


def test_a_write_into_a_missing_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "none" / "a.txt", "x")


def test_json_refuses_what_others_cannot_parse(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, None]})
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError):
            write_json(tmp_path / "a.json", {"b": value})
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": [1, None]}
    assert names(tmp_path) == ["a.json"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "model"
    for content in ("old", "new"):
        with replacing_folder(path) as temporary:
            (temporary / content).write_text(content)
            assert not (path / content).exists()
    assert names(path) == ["new"] and names(path.parent) == ["model"]


def test_a_folder_that_another_process_made_first_stays(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "tokenizer"
    with making_folder(path) as temporary:
        (temporary / "file").write_text("mine")
        path.mkdir()
        (path / "file").write_text("theirs")
    assert (path / "file").read_text() == "theirs" and names(path.parent) == ["tokenizer"]
    with pytest.raises(ZeroDivisionError), making_folder(tmp_path / "other"):
        raise ZeroDivisionError
    assert names(tmp_path) == ["cache"]


@pytest.mark.parametrize("existing", [True, False])
def test_a_failed_block_keeps_the_old_folder(tmp_path: Path, existing: bool) -> None:
    path = tmp_path / "model"
    if existing:
        path.mkdir()
        (path / "old").write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing_folder(path) as temporary:
        (temporary / "half").write_text("half")
        raise KeyboardInterrupt
    assert names(tmp_path) == (["model"] if existing else [])
    assert not existing or names(path) == ["old"]


def test_a_failed_replacement_keeps_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").write_text("old")
    rename = os.rename

    def full(source: Path, target: Path) -> None:
        if Path(target) == path and (Path(source) / "new").exists():
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OSError), replacing_folder(path) as temporary:
        (temporary / "new").write_text("new")
    assert names(tmp_path) == ["model"] and names(path) == ["old"]


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    left = tmp_path / f".model.{os.getpid()}.tmp"
    left.mkdir()
    (left / "stale").write_text("stale")
    with replacing_folder(tmp_path / "model") as temporary:
        (temporary / "new").write_text("new")
    assert names(tmp_path / "model") == ["new"]


def test_files_of_a_folder_can_be_read_by_others(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        with replacing_folder(tmp_path / "model") as temporary:
            (temporary / "weights").touch(mode=0o600)
    finally:
        os.umask(old)
    assert (tmp_path / "model" / "weights").stat().st_mode & 0o777 == 0o644
