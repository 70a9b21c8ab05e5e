"""What a job will need is compared with what it gets before it is submitted."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hfscale.errors import LaunchError, RunFolderError, SettingsError
from hfscale.schemas.slurm import ClusterSettings, JobSettings
from hfscale.slurm import estimate
from tests.support.commands import ROOT

GPT = ["--tokenizer.vocab_size", "300", "--data.train", "x.txt", "--data.max_length", "64", "--model.num_heads", "16"]
SETTINGS = {"train": {"activation_checkpointing": False}}


def check(
    folder: Path, layers: int, cluster: dict[str, Any] | None = None, words: list[Any] | None = None, **job: Any
):
    size = ["--model.hidden_size", "4096", "--model.num_layers", str(layers), "--train.max_steps", "1000"]
    command = [
        str(ROOT / "recipes" / "pretrain_gpt.py"),
        *GPT,
        *size,
        *(words or []),
        "--train.output_dir",
        str(folder),
    ]
    settings = JobSettings(command=command, run_folder=str(folder), **{"gpus_per_node": 2, "time": "1:00:00", **job})
    estimate.check(ClusterSettings(**{"gpu": "a100-40", **(cluster or {})}), settings, SETTINGS)


def has_free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=size))


@pytest.fixture(autouse=True)
def large_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    has_free(monkeypatch, 2**40)


def test_it_is_said_what_a_run_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(tmp_path, layers=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["disk", "memory", "time"]
    assert lines[1].endswith("of 2 x NVIDIA A100 40 GB SXM each, as DDP")
    assert lines[2].endswith("1 start of 1:00:00")


def test_what_does_not_fit_is_refused_and_sharding_is_counted(tmp_path: Path, capsys: Any) -> None:
    """3.2 billion weights take 12.0 GiB, and four times as much in training: too much for one GPU of 40."""
    with pytest.raises(
        LaunchError, match=r"new gpt2 does not fit on 2 x NVIDIA A100 40 GB SXM as DDP: .*hfscale plan"
    ):
        check(tmp_path, layers=16)
    capsys.readouterr()
    check(tmp_path, layers=16, accelerate_config=str(ROOT / "accelerate_configs" / "zero3.yaml"))
    assert "as ZeRO-3" in capsys.readouterr().out


def test_more_starts_than_allowed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"about .* h of training, .* starts of 0:06:00: more than max_restarts 0"):
        check(tmp_path, layers=1, cluster={"max_restarts": 0}, words=["--train.max_steps", "1000000"], time="0:06:00")


def test_a_batch_that_the_gpus_cannot_share_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="a global batch of 100 can't be shared by 3 GPUs"):
        check(tmp_path, layers=1, words=["--train.global_batch_size", "100"], gpus_per_node=3)


def test_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    has_free(monkeypatch, 2**20)
    with pytest.raises(RunFolderError, match=r"has 0\.0 GiB free; checkpoints and models take up to .* GiB"):
        check(tmp_path, layers=1, gpus_per_node=0)


def test_unknown_gpus_are_said_to_be_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(tmp_path, layers=1, cluster={"gpu": None})
    assert "estimate   none: name the GPUs in the cluster's settings" in capsys.readouterr().out


@pytest.mark.parametrize("text", [None, "- a list", "a: [b"])
def test_a_wrong_launcher_file_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "launch.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError, match=f"--accelerate-config {path}"):
        check(tmp_path, layers=1, accelerate_config=str(path))
