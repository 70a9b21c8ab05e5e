"""A disk that is full or closed ends a run in one line, and leaves no torn file."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hfscale.training.checkpoint_files import checkpoint_folders, read_checkpoint
from tests.support.commands import FINETUNE_BERT, assert_one_line
from tests.support.tiny import reviews, write_csv, write_tiny_bert
from tests.support.warm import WarmRun, warm_run


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
    words = [FINETUNE_BERT, "--model.name", folder / "bert", "--data.train", folder / "rows.csv"]
    words += ["--train.max_steps", 9, "--train.save_steps", 2, "--train.eval_steps", 4, "--train.log_steps", 1]
    return [*words, "--baselines", "false", "--train.output_dir", output]


def test_too_small_for_two_checkpoints(tmp_path: Path, tiny_disk: Path) -> None:
    (tiny_disk / "filler").write_bytes(b"\0" * (2**20 - 8192 - 400_000))
    finished = warm_run(*words(tmp_path, tiny_disk / "run"))
    assert_one_line(finished, f"the disk of {tiny_disk / 'run'} has 0.4 MiB free", "(0.2 MiB each, two at a time)")
    assert not (tiny_disk / "run").exists()


@pytest.mark.parametrize("free_bytes", [0, 20_000, 60_000, 120_000, 250_000])
def test_full_in_the_midst(tmp_path: Path, tiny_disk: Path, free_bytes: int) -> None:
    """Full while a line, a checkpoint or the best weights are written: what was saved before is gone on with."""
    reference = WarmRun((*words(tmp_path, tmp_path / "whole"),), tmp_path / "whole_log", {}).wait()
    assert reference.returncode == 0, reference.stdout + reference.stderr
    command = tuple(words(tmp_path, tiny_disk / "run"))
    hook = {"fill_disk": (str(tiny_disk), 3, free_bytes)}
    finished = WarmRun(command, tmp_path / "full", hook).wait()
    assert finished.returncode == 2, finished.stdout + finished.stderr
    warning, error = finished.stderr.splitlines()
    assert error.startswith("error: the disk is full at ") and str(tiny_disk / "run") in error
    assert f"the last checkpoint is {tiny_disk}/run/checkpoints/step-00000" in warning
    assert not [path for path in (tiny_disk / "run").rglob("*.tmp")]
    for folder in checkpoint_folders(tiny_disk / "run"):
        read_checkpoint(folder)
    (tiny_disk / "filler").unlink()
    resumed = WarmRun(command, tmp_path / "resumed", {}).wait()
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "resumed    from step-00000" in resumed.stdout
    weights, whole = (
        load_file(folder / "model/model.safetensors") for folder in (tiny_disk / "run", tmp_path / "whole")
    )
    assert all(torch.equal(weight, whole[name]) for name, weight in weights.items())


def test_no_write_permission(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        closed = Path("/proc/hfscale-run")
    else:
        (tmp_path / "closed").mkdir(mode=0o500)
        closed = tmp_path / "closed" / "run"
    assert_one_line(warm_run(*words(tmp_path, closed)), str(closed), "--train.output_dir")
