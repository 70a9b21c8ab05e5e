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
from tests.support.commands import FINETUNE_BERT, ROOT
from tests.support.tiny import reviews, write_csv

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


@pytest.mark.parametrize(
    ("zero", "said"),
    [
        ("{zero_stage: auto}", "zero_stage is auto, not 1, 2 or 3"),
        ("{deepspeed_config_file: nowhere.json}", "deepspeed_config_file nowhere.json holds no zero_optimization"),
        ("a word", "deepspeed_config holds no settings"),
    ],
)
def test_what_deepspeed_is_told_must_be_known(tmp_path: Path, zero: str, said: str) -> None:
    path = tmp_path / "launch.yaml"
    path.write_text(f"distributed_type: DEEPSPEED\ndeepspeed_config: {zero}\n")
    with pytest.raises(SettingsError, match=said):
        check(tmp_path, layers=1, accelerate_config=str(path))


def test_deepspeeds_own_file_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "zero.json").write_text('{"zero_optimization": {"stage": 3}}')
    path = tmp_path / "launch.yaml"
    path.write_text(
        f"distributed_type: DEEPSPEED\ndeepspeed_config: {{deepspeed_config_file: {tmp_path}/zero.json}}\n"
    )
    check(tmp_path, layers=1, accelerate_config=str(path))
    assert "as ZeRO-3" in capsys.readouterr().out


def _needed(said: str) -> float:
    return float(said.split("disk")[1].split()[0])


def test_the_disk_of_every_run_of_an_array_less_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check(tmp_path, layers=1)
    one = _needed(capsys.readouterr().out)
    check(tmp_path, layers=1, tasks={"a": [], "b": []})
    assert _needed(capsys.readouterr().out) == pytest.approx(2 * one, abs=0.2)
    (tmp_path / "checkpoints" / "step-000002").mkdir(parents=True)
    check(tmp_path, layers=1)
    assert _needed(capsys.readouterr().out) == pytest.approx(one * 20 / 32, abs=0.1)


def test_an_adapter_saves_what_it_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A body of 32 million weights, an adapter and a head of a quarter of a million."""
    from transformers import BertConfig

    BertConfig(hidden_size=512, num_hidden_layers=6, num_attention_heads=8, intermediate_size=2048).save_pretrained(
        tmp_path / "bert"
    )
    write_csv(tmp_path / "rows.csv", reviews(40))
    words = ["--model.name", str(tmp_path / "bert"), "--data.train", str(tmp_path / "rows.csv")]
    for more, least, most in [([], 1.0, 1.2), (["--lora.r", "8"], 0.0, 0.05)]:
        command = [FINETUNE_BERT, *words, *more, "--train.output_dir", str(tmp_path / "run")]
        (tmp_path / "run").mkdir(exist_ok=True)
        estimate.check(ClusterSettings(), JobSettings(command=command, run_folder=str(tmp_path / "run")), SETTINGS)
        assert least <= _needed(capsys.readouterr().out) <= most
