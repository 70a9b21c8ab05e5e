"""A disk that is full or closed ends a run in one line, and leaves no torn file."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import FINETUNE_BERT, assert_one_line, run
from tests.support.tiny import reviews, write_csv, write_tiny_bert


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"mounting a small tmpfs needs root: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def words(folder: Path, output: Path) -> list[Any]:
    write_tiny_bert(folder / "bert")
    write_csv(folder / "rows.csv", reviews(60))
    settings = ["--train.max_steps", "6", "--train.eval_steps", "2", "--baselines", "false"]
    return [
        FINETUNE_BERT,
        "--model.name",
        folder / "bert",
        "--data.train",
        folder / "rows.csv",
        *settings,
        "--train.output_dir",
        output,
    ]


@pytest.mark.parametrize("free_bytes", [4_096, 40_000, 180_000])
def test_full_disk(tmp_path: Path, tiny_disk: Path, free_bytes: int) -> None:
    """Full from the start; while the best weights (about 115 kB) are written; while the model folder is."""
    (tiny_disk / "filler").write_bytes(b"\0" * (2**20 - 8192 - free_bytes))
    finished = run(*words(tmp_path, tiny_disk / "run"))
    assert_one_line(finished, "the disk is full at ", str(tiny_disk / "run"))
    left = [path for path in (tiny_disk / "run").rglob("*") if path.is_file()]
    assert not [path for path in left if path.name.startswith(".") or ".tmp" in str(path)]
    for path in left:
        if path.suffix == ".jsonl":
            [json.loads(line) for line in path.read_text().splitlines()]
        elif path.suffix == ".json":
            json.loads(path.read_text())


def test_no_write_permission(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        closed = Path("/proc/hfscale-run")
    else:
        (tmp_path / "closed").mkdir(mode=0o500)
        closed = tmp_path / "closed" / "run"
    assert_one_line(run(*words(tmp_path, closed)), str(closed), "--train.output_dir")
