"""Who may use a run folder, and what a run goes on from."""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate import Accelerator

from hfscale.errors import AlreadyDone, HfscaleError, RunFolderError, SettingsError
from hfscale.runs import Run, claim, complete_run, open_run
from hfscale.runs.changes import allowed_changes
from hfscale.schemas import HubSettings, OptimSettings, TrainSettings
from hfscale.training.checkpoint_files import best_folder, checkpoint_folder, writing_checkpoint


@dataclass(frozen=True, kw_only=True)
class Config:
    train: TrainSettings
    optim: OptimSettings = field(default_factory=OptimSettings)
    hub: HubSettings | None = None


RESULT: dict[str, Any] = {
    "metrics": {"accuracy": 0.8125}, "steps": 40, "samples_per_second": 1.0, "tokens_per_second": 1.0,
    "matmul_peak_fraction": 0.25, "train_seconds": 4.0, "peak_memory_bytes": 2**30,
}  # fmt: skip


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def config_for(folder: Path, optim: dict[str, Any] | None = None, **train: Any) -> Config:
    return Config(train=TrainSettings(output_dir=str(folder), **train), optim=OptimSettings(**optim or {}))


def begun(folder: Path, accelerator: Accelerator, steps: tuple[int, ...] = (), **changed: Any) -> Run:
    """A run that wrote these checkpoints, and then was killed."""
    config = config_for(folder, **changed)
    run = claim(config, accelerator)
    with open_run(run, config, {}, accelerator):
        for step in steps:
            state = {"settings": run.settings, "best": {"step": None}, "metrics_bytes": 3 * step, "step": step}
            facts = {"step": step, "best_step": None}
            with writing_checkpoint(checkpoint_folder(folder, step), state, facts, lambda: None) as temporary:
                (temporary / "model.safetensors").write_bytes(b"weights")
    (folder / "metrics.jsonl").write_text("{}\n" * 20)
    return run


def refusal(kind: type[HfscaleError], config: Config, accelerator: Accelerator) -> str:
    folder = Path(config.train.output_dir)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    with pytest.raises(kind) as caught:
        claim(config, accelerator)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    assert before == after
    return str(caught.value)


@pytest.mark.parametrize("name", ["run", "deep/down/run"])
def test_a_free_folder_is_taken(tmp_path: Path, accelerator: Accelerator, name: str) -> None:
    run = claim(config_for(tmp_path / name), accelerator)
    assert (run.folder, run.checkpoint) == (tmp_path / name, None)
    assert [path.name for path in run.folder.iterdir()] == [".lock"]


def test_what_a_killed_start_left_is_no_other_run(tmp_path: Path, accelerator: Accelerator) -> None:
    for name in (".hfscale-abc", ".config.yaml.12.tmp", ".lock.abc.tmp"):
        (tmp_path / name).touch()
    claim(config_for(tmp_path), accelerator)
    assert {path.name for path in tmp_path.iterdir()} == {".hfscale-abc", ".lock"}


@pytest.mark.parametrize("name", [".hidden", "rows.csv", "result.json"])
def test_a_folder_with_other_things_is_refused(tmp_path: Path, accelerator: Accelerator, name: str) -> None:
    (tmp_path / name).write_text("x")
    message = refusal(RunFolderError, config_for(tmp_path), accelerator)
    assert "is not empty, and holds no run" in message and "choose another --train.output_dir" in message
    assert not (tmp_path / ".lock").exists()


def test_a_file_is_refused(tmp_path: Path, accelerator: Accelerator) -> None:
    (tmp_path / "run").write_text("")
    assert "is a file" in refusal(RunFolderError, config_for(tmp_path / "run"), accelerator)
    assert "can't write run folder" in refusal(RunFolderError, config_for(tmp_path / "run" / "below"), accelerator)


def test_a_run_starts_with_its_settings(tmp_path: Path, accelerator: Accelerator) -> None:
    config = config_for(tmp_path)
    with open_run(claim(config, accelerator), config, {"python": "3"}, accelerator):
        assert yaml.safe_load((tmp_path / "config.yaml").read_text())["train"]["precision"] == "fp32"
        assert json.loads((tmp_path / "environment.json").read_text()) == {"python": "3"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_run_that_fails_before_its_first_step_leaves_nothing(
    tmp_path: Path, accelerator: Accelerator, error: type[BaseException]
) -> None:
    config = config_for(tmp_path)
    with pytest.raises(error), open_run(claim(config, accelerator), config, {}, accelerator):
        (tmp_path / "checkpoints").mkdir()
        raise error
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_run_that_has_logged_stays(tmp_path: Path, accelerator: Accelerator) -> None:
    config = config_for(tmp_path)
    with pytest.raises(RuntimeError), open_run(claim(config, accelerator), config, {}, accelerator):
        (tmp_path / "metrics.jsonl").write_text("{}\n")
        raise RuntimeError
    assert (tmp_path / "metrics.jsonl").exists() and (tmp_path / "config.yaml").exists()


def test_the_newest_valid_checkpoint_is_gone_on_with(
    tmp_path: Path, accelerator: Accelerator, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(tmp_path, accelerator, steps=(5, 10))
    run = claim(config_for(tmp_path), accelerator)
    assert run.checkpoint is not None and run.checkpoint.step == 10
    (tmp_path / "checkpoints" / "step-000010" / "model.safetensors").write_bytes(b"wEights")
    run = claim(config_for(tmp_path), accelerator)
    assert run.checkpoint is not None and run.checkpoint.step == 5
    said = capsys.readouterr().err
    assert "step-000010 is damaged: model.safetensors has another sha256" in said and "passed over" in said


def test_other_machines_of_earlier_starts_are_noted(tmp_path: Path, accelerator: Accelerator) -> None:
    def machine(device: str) -> dict[str, Any]:
        return {"device": device, "num_processes": 1}

    config, noted = config_for(tmp_path), tmp_path / "environment.json"
    begun(tmp_path, accelerator, steps=(5,))
    noted.write_text(json.dumps(machine("one")))
    earlier = []
    for device in ("one", "two", "two", "three", "one"):
        with open_run(claim(config, accelerator), config, machine(device), accelerator):
            found = json.loads(noted.read_text())
            earlier.append([each["device"] for each in found.get("earlier", [])])
    assert earlier == [[], ["one"], ["one"], ["one", "two"], ["two", "three"]]


def test_without_a_checkpoint_it_begins_anew(
    tmp_path: Path, accelerator: Accelerator, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(tmp_path, accelerator)
    assert claim(config_for(tmp_path), accelerator).checkpoint is None
    assert f"restarted  from the beginning: {tmp_path} holds no checkpoint" in capsys.readouterr().out


def test_never_refuses_what_is_there(tmp_path: Path, accelerator: Accelerator) -> None:
    begun(tmp_path, accelerator, steps=(5,))
    message = refusal(RunFolderError, config_for(tmp_path, resume="never"), accelerator)
    assert "holds a run that has not finished" in message and "--train.resume auto" in message


@pytest.mark.parametrize("steps", [(), (5,)])
def test_other_mathematics_is_refused_by_name(tmp_path: Path, accelerator: Accelerator, steps: tuple[int]) -> None:
    begun(tmp_path, accelerator, steps=steps, optim={"lr": 1e-3})
    config = config_for(tmp_path, optim={"lr": 2e-3}, seed=1)
    message = refusal(SettingsError, config, accelerator)
    for part in ("train.seed was 0, is 1", "optim.lr was 0.001, is 0.002", "allow_changes '[train.seed, optim.lr]'"):
        assert part in message
    assert "optim.lr" in refusal(SettingsError, with_train(config, allow_changes=["train.seed"]), accelerator)
    run = claim(with_train(config, allow_changes=["train.seed", "optim.lr"]), accelerator)
    assert run.changes == ({"train.seed": [0, 1], "optim.lr": [1e-3, 2e-3]} if steps else {})


def test_the_loser_of_a_folder_leaves_it_alone(tmp_path: Path, accelerator: Accelerator) -> None:
    config = config_for(tmp_path)
    with pytest.raises(RuntimeError), open_run(claim(config, accelerator), config, {}, accelerator):
        (tmp_path / ".lock").write_text("1\n{}")
        raise RuntimeError
    assert (tmp_path / "config.yaml").exists()


def test_another_runs_folder_is_no_branch(tmp_path: Path, accelerator: Accelerator) -> None:
    begun(tmp_path / "a", accelerator, steps=(2,))
    begun(tmp_path / "b", accelerator)
    config = config_for(tmp_path / "b", resume=str(tmp_path / "a"))
    assert "holds another run" in refusal(RunFolderError, config, accelerator)


def test_a_block_that_is_left_out_is_another_setting(tmp_path: Path) -> None:
    train = TrainSettings(output_dir="x")
    with pytest.raises(SettingsError, match=r"lora\.r was 8, is null"):
        allowed_changes({"optim.lr": 1.0, "lora": None}, {"optim.lr": 1.0, "lora.r": 8}, tmp_path, train)


def test_a_name_that_allows_nothing_is_refused(tmp_path: Path, accelerator: Accelerator) -> None:
    begun(tmp_path, accelerator, steps=(5,))
    message = refusal(SettingsError, config_for(tmp_path, allow_changes=["optim.lrr"]), accelerator)
    assert "there is no setting optim.lrr; did you mean optim.lr?" in message


def test_what_changes_no_mathematics_is_accepted_and_said(
    tmp_path: Path, accelerator: Accelerator, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(tmp_path, accelerator, steps=(5,))
    claim(config_for(tmp_path, log_steps=3, micro_batch_size=4, save_steps=7), accelerator)
    said = capsys.readouterr().out
    for part in ("log_steps: 10 before, 3 now", "micro_batch_size: null before, 4 now", "save_steps: null before"):
        assert f"changed    train.{part}" in said


def test_a_complete_run_has_nothing_left_to_do(tmp_path: Path, accelerator: Accelerator) -> None:
    begun(tmp_path, accelerator, steps=(5,))
    (tmp_path / "model").mkdir()
    complete_run(tmp_path, RESULT)
    message = refusal(AlreadyDone, config_for(tmp_path), accelerator)
    assert "holds this run already, accuracy 0.812 after 40 steps" in message
    other = config_for(tmp_path, optim={"lr": 1e-3}, allow_changes=["optim.lr"])
    message = refusal(SettingsError, other, accelerator)
    assert f"to go on there from this complete run, add --train.resume {tmp_path}" in message and "optim.lr" in message
    assert "a finished run, accuracy 0.812" in refusal(
        RunFolderError, config_for(tmp_path, resume="never"), accelerator
    )


def test_another_run_is_gone_on_with_in_a_new_folder(tmp_path: Path, accelerator: Accelerator) -> None:
    begun(tmp_path / "a", accelerator, steps=(2, 4))
    best_folder(tmp_path / "a", 1).mkdir()
    for source, step in ((tmp_path / "a", 4), (tmp_path / "a" / "checkpoints" / "step-000002", 2)):
        config = config_for(tmp_path / f"b{step}", resume=str(source))
        run = claim(config, accelerator)
        assert run.checkpoint is not None and run.checkpoint.step == step
        with open_run(run, config, {}, accelerator):
            assert (run.folder / "metrics.jsonl").read_text() == "{}\n" * step
    shutil.rmtree(tmp_path / "b4")
    begun(tmp_path / "b4", accelerator, steps=(6,), resume=str(tmp_path / "a"))
    again = claim(config_for(tmp_path / "b4", resume=str(tmp_path / "a")), accelerator)
    assert again.checkpoint is not None and again.checkpoint.step == 6, "its own checkpoint is newer"


@pytest.mark.parametrize(
    "source, words",
    [("nowhere", "no such folder"), ("empty", "holds no valid checkpoint"), ("empty/checkpoints", "has no manifest")],
)
def test_nothing_to_go_on_from_is_refused(tmp_path: Path, accelerator: Accelerator, source: str, words: str) -> None:
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    config = config_for(tmp_path / "run", resume=str(tmp_path / source))
    assert words in refusal(RunFolderError, config, accelerator)


def with_train(config: Config, **changed: Any) -> Config:
    return dataclasses.replace(config, train=dataclasses.replace(config.train, **changed))
