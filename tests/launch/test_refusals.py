"""Launch commands that would silently train something else end in one line with the command that works."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import FINETUNE_BERT, launch, run
from tests.support.tiny import reviews, write_csv, write_tiny_bert

PLAIN = ("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("refusals")
    rows = write_csv(folder / "rows.csv", reviews(20))
    model = write_tiny_bert(folder / "bert")
    return [FINETUNE_BERT, "--model.name", model, "--data.train", rows, "--train.output_dir", folder / "run"]


def assert_refused(finished: Any, words: list[Any], *parts: str) -> None:
    """accelerate adds its own report of the child's exit status after the recipe's single line."""
    assert finished.returncode != 0
    lines = [line for line in finished.stderr.splitlines() if line.startswith(("error: ", "[rank 1] error: "))]
    assert lines, finished.stderr
    for part in parts:
        assert part in lines[0], lines[0]
    assert not Path(words[-1]).exists()


def test_cpu_flag_with_two_processes(words: list[Any]) -> None:
    finished = launch(("--cpu", "--num_processes", "2", *PLAIN), *words)
    assert_refused(finished, words, "2 processes were asked for", "ddp.yaml", "--num_processes 2")


def test_multi_cpu_config_file(words: list[Any], tmp_path: Path) -> None:
    config = tmp_path / "multi_cpu.yaml"
    config.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_CPU\nnum_processes: 2\nnum_machines: 1\n"
        "machine_rank: 0\nuse_cpu: true\nmixed_precision: 'no'\n"
    )
    assert_refused(launch(("--config_file", config), *words), words, "2 processes were asked for", "ddp.yaml")


def test_deepspeed_is_not_turned_into_ddp(words: list[Any]) -> None:
    environ = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_USE_CPU": "true", "ACCELERATE_MIXED_PRECISION": "no"}
    assert_refused(run(*words, env=environ), words, "DeepSpeed", "plain DDP", "zero2.yaml")


def test_copies_started_by_srun(words: list[Any]) -> None:
    environ = {"SLURM_NTASKS": "4", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1"}
    assert_refused(run(*words, env=environ), words, "4 copies", "accelerate launch")


def test_accumulation_in_the_launchers_settings(words: list[Any]) -> None:
    environ = {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}
    assert_refused(run(*words, env=environ), words, "gradient_accumulation_steps", "--train.micro_batch_size")


def test_deepspeed_without_a_launcher(words: list[Any]) -> None:
    finished = run(*words, env={"ACCELERATE_USE_DEEPSPEED": "true"})
    assert_refused(finished, words, "ACCELERATE_USE_DEEPSPEED", "zero2.yaml")


def test_fsdp_on_a_cpu(words: list[Any]) -> None:
    environ = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "CUDA_VISIBLE_DEVICES": ""}
    assert_refused(run(*words, env=environ), words, "FSDP2 needs GPUs", "zero3.yaml")


def test_fsdp_of_the_first_version(words: list[Any]) -> None:
    assert_refused(run(*words, env={"ACCELERATE_USE_FSDP": "true"}), words, "first version", "fsdp2.yaml")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="needs the extra `deepspeed`")
def test_what_the_deepspeed_configuration_may_not_say(words: list[Any], tmp_path: Path) -> None:
    zero = {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 2}, "gradient_clipping": 0.5}
    (tmp_path / "zero.json").write_text(json.dumps(zero))
    launcher = ("--use_deepspeed", "--deepspeed_config_file", tmp_path / "zero.json", "--num_processes", "2", *PLAIN)
    finished = launch(launcher, *words)
    assert_refused(finished, words, "gradient_clipping", "--optim.max_grad_norm")
