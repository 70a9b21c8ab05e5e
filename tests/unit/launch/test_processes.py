"""Launches that would train something else than was asked for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from hfscale import launch
from hfscale.errors import LaunchError, MissingExtraError
from hfscale.launch.processes import launch_arguments, refuse_strangers, refuse_unsupported
from hfscale.schemas import TrainSettings
from tests.support.commands import DDP

RECIPE = "recipes/finetune_bert.py"


def strangers(num_processes: int, launcher: list[str] | None = None, **environ: Any) -> str:
    with pytest.raises(LaunchError) as caught:
        refuse_strangers(num_processes, {name: str(value) for name, value in environ.items()}, launcher or [])
    assert "accelerate launch --config_file accelerate_configs/ddp.yaml" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "launcher",
    [
        ["--cpu", "--num_processes", "2", RECIPE],
        ["--cpu", "--num_processes=2", RECIPE, "--train.seed", "1"],
        ["--num-processes", "2", "--cpu", RECIPE],
        ["--num_processes", "2", "--mixed_precision", "no", "-m", "recipes.finetune_bert"],
        [*DDP, "--cpu", RECIPE],
        [f"--config_file={DDP[1]}", "--cpu", RECIPE],
    ],
)
def test_fewer_processes_than_asked_for_are_refused(launcher: list[str]) -> None:
    message = strangers(1, launcher)
    assert "2 processes were asked for" in message and "--num_processes 2" in message


@pytest.mark.parametrize("number", ["2", "'2'", "2  # two of them"])
@pytest.mark.parametrize("kind", ["MULTI_CPU", "'NO'"])
@pytest.mark.parametrize("flag", ["--config_file", "--config-file"])
def test_the_config_file_is_asked_too(tmp_path: Path, kind: str, number: str, flag: str) -> None:
    path = tmp_path / "cpu.yaml"
    path.write_text(f"compute_environment: LOCAL_MACHINE\ndistributed_type: {kind}\nnum_processes: {number}\n")
    assert "2 processes were asked for" in strangers(1, [flag, str(path), RECIPE])


def test_a_json_config_file_is_asked_too(tmp_path: Path) -> None:
    (tmp_path / "cpu.json").write_text('{\n  "distributed_type": "MULTI_CPU",\n  "num_processes": 2\n}\n')
    assert "2 processes were asked for" in strangers(1, ["--config_file", f"{tmp_path}/cpu.json", RECIPE])


@pytest.mark.parametrize(
    "launcher",
    [
        [],
        [RECIPE],
        ["--cpu", RECIPE],
        ["--num_processes", "1", RECIPE],
        ["--num_processes=1", *DDP, RECIPE],
        [*DDP, "--num_processes", "1", RECIPE],
        ["--cpu", RECIPE, "--num_processes", "2"],
        ["--config_file", "accelerate_configs/cpu.yaml", RECIPE],
        ["--config_file", "nowhere.yaml", RECIPE],
        ["--num_machines", "2", RECIPE],
    ],
)
def test_one_process_that_was_asked_for_is_taken(launcher: list[str]) -> None:
    refuse_strangers(1, {}, launcher)


def test_two_processes_that_know_of_each_other_are_taken() -> None:
    refuse_strangers(2, {"WORLD_SIZE": "2"}, [*DDP, RECIPE])
    refuse_strangers(2, {"WORLD_SIZE": "2", "SLURM_NTASKS": "2", "SLURM_STEP_ID": "0"}, [])


def test_processes_that_train_alone_are_refused() -> None:
    message = strangers(1, WORLD_SIZE=4)
    assert "4 processes were started, but each of them trains alone" in message and "--num_processes 4" in message


def test_copies_of_srun_are_refused() -> None:
    message = strangers(1, SLURM_NTASKS=4, SLURM_STEP_ID=0)
    assert "srun started 4 copies" in message and "--num_processes 4" in message


def test_a_batch_script_of_slurm_is_not_a_copy() -> None:
    refuse_strangers(1, {"SLURM_NTASKS": "4"}, [])
    refuse_strangers(1, {"SLURM_NTASKS": "1", "SLURM_STEP_ID": "0"}, [])


@pytest.mark.parametrize(
    "variable, name",
    [
        ("ACCELERATE_USE_MEGATRON_LM", "Megatron-LM"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "a parallelism config"),
    ],
)
def test_sharding_is_refused(variable: str, name: str) -> None:
    for on in ("true", "True", "1"):
        with pytest.raises(LaunchError, match=f"asks for {name}, which hfscale does not run"):
            refuse_unsupported({variable: on})
    refuse_unsupported({variable: "false"})


def test_only_the_second_fsdp_is_taken() -> None:
    refuse_unsupported({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"})
    with pytest.raises(LaunchError, match=r"--train\.activation_checkpointing decides it"):
        refuse_unsupported(
            {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_ACTIVATION_CHECKPOINTING": "true"}
        )
    with pytest.raises(LaunchError, match=r"FSDP in its first version; use .*fsdp2\.yaml"):
        refuse_unsupported({"ACCELERATE_USE_FSDP": "true"})
    with pytest.raises(LaunchError, match=r"integers of --quant; use .*zero3\.yaml"):
        refuse_unsupported({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}, quantized=True)
    with pytest.raises(LaunchError, match=r"prompt has not been tried under FSDP2; use .*zero2\.yaml"):
        refuse_unsupported({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}, prompt=True)


def test_deepspeed_without_a_launcher_is_refused() -> None:
    with pytest.raises(LaunchError, match=r"no launcher has told.*zero2\.yaml"):
        refuse_unsupported({"ACCELERATE_USE_DEEPSPEED": "true"})


def test_deepspeed_that_would_be_plain_ddp_is_refused() -> None:
    refuse_unsupported({"ACCELERATE_USE_DEEPSPEED": "true", "RANK": "0"})
    with pytest.raises(LaunchError, match="into plain DDP without a word"):
        refuse_unsupported({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_USE_CPU": "true"})


def test_accumulation_of_the_launcher_is_refused() -> None:
    with pytest.raises(LaunchError, match=r"gradient_accumulation_steps is 4.*--train\.micro_batch_size"):
        refuse_unsupported({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"})
    refuse_unsupported({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1"})
    refuse_unsupported({})


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb", "trackio"])
def test_a_missing_tracker_names_its_extra(monkeypatch: pytest.MonkeyPatch, tracker: Any) -> None:
    monkeypatch.setitem(sys.modules, tracker, None)
    with pytest.raises(MissingExtraError) as caught:
        launch.start(TrainSettings(output_dir="x", trackers=[tracker]))
    assert f"--train.trackers {tracker}" in str(caught.value)
    assert f"pip install 'hfscale[{tracker}]'" in str(caught.value)


def test_a_launch_is_checked_before_anything_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(LaunchError, match="FSDP"):
        launch.start(TrainSettings(output_dir="x"))


@pytest.mark.parametrize(
    "words",
    [
        ["python", "/venv/bin/accelerate", "launch", "--cpu", "x.py"],
        ["python", "/venv/bin/accelerate-launch", "--cpu", "x.py"],
        ["python", "-m", "accelerate.commands.launch", "--cpu", "x.py"],
    ],
)
def test_the_launcher_is_recognised(words: list[str]) -> None:
    assert launch_arguments(words) == ["--cpu", "x.py"]
    assert launch_arguments(["bash", "launch", "--cpu"]) == []
