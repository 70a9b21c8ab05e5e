"""The run folder: refused when taken, gone when a run fails early, complete when it ends."""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate import Accelerator

from hfscale.errors import RunFolderError
from hfscale.runs import check_free, open_run, predict_commands, say_result, write_result
from hfscale.schemas import TrainSettings


@dataclass(frozen=True, kw_only=True)
class Config:
    train: TrainSettings


CONFIG = Config(train=TrainSettings(output_dir="unused"))
RESULT: dict[str, Any] = {
    "metrics": {"accuracy": 0.8125, "loss": math.nan},
    "steps": 40,
    "samples_per_second": 10.0,
    "tokens_per_second": 100.0,
    "matmul_peak_fraction": 0.25,
    "train_seconds": 4.0,
    "peak_memory_bytes": 2**30,
}


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def refusal(path: Path) -> str:
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(RunFolderError) as caught:
        check_free(str(path))
    assert sorted(path.parent.rglob("*")) == before
    assert str(path) in str(caught.value) and "choose another --train.output_dir" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["run", "deep/down/run"])
def test_a_free_folder_is_left_untouched(tmp_path: Path, name: str) -> None:
    assert check_free(str(tmp_path / name)) == tmp_path / name
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_free(tmp_path: Path) -> None:
    check_free(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_is_refused_with_its_result(tmp_path: Path) -> None:
    write_result(tmp_path, RESULT)
    assert "holds a finished run (accuracy 0.812 after 40 steps)" in refusal(tmp_path)


def test_a_finished_run_without_a_number_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    write_result(tmp_path, {**RESULT, "metrics": {"pearson": math.nan}})
    refusal(tmp_path)


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("task: x\n")
    assert "holds a run that has not finished" in refusal(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"metrics": {}}', '{"metrics": {"a": "b"}, "steps": 1}'])
def test_a_folder_with_a_strange_result_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "result.json").write_text(content)
    assert "is not empty" in refusal(tmp_path)


def test_a_folder_with_anything_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_text("")
    assert "is not empty" in refusal(tmp_path)


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    assert "is a file" in refusal(tmp_path / "run")
    with pytest.raises(RunFolderError, match="can't write run folder"):
        check_free(str(tmp_path / "run" / "below"))


def test_a_run_starts_with_its_settings(tmp_path: Path, accelerator: Accelerator) -> None:
    path = tmp_path / "deep" / "run"
    with open_run(path, CONFIG, {"python": "3"}, accelerator) as folder:
        assert folder == path
        assert yaml.safe_load((path / "config.yaml").read_text())["train"]["precision"] == "fp32"
        assert json.loads((path / "environment.json").read_text()) == {"python": "3"}
    assert path.is_dir()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_run_that_fails_before_its_first_step_vanishes(
    tmp_path: Path, accelerator: Accelerator, error: type[BaseException]
) -> None:
    with pytest.raises(error), open_run(tmp_path / "run", CONFIG, {}, accelerator) as folder:
        (folder / "checkpoints").mkdir()
        raise error
    assert not (tmp_path / "run").exists()


def test_a_run_whose_settings_cannot_be_written_vanishes(tmp_path: Path, accelerator: Accelerator) -> None:
    with pytest.raises(ValueError), open_run(tmp_path / "run", CONFIG, {"x": math.nan}, accelerator):
        pass
    assert not (tmp_path / "run").exists()


def test_a_run_that_has_logged_stays(tmp_path: Path, accelerator: Accelerator) -> None:
    with pytest.raises(RuntimeError), open_run(tmp_path / "run", CONFIG, {}, accelerator) as folder:
        (folder / "metrics.jsonl").write_text("{}\n")
        raise RuntimeError
    assert (tmp_path / "run" / "metrics.jsonl").exists()


def test_another_run_in_the_folder_is_not_touched(tmp_path: Path, accelerator: Accelerator) -> None:
    (tmp_path / "config.yaml").write_text("task: x\n")
    with pytest.raises(RunFolderError), open_run(tmp_path, CONFIG, {}, accelerator):
        pass
    assert (tmp_path / "config.yaml").read_text() == "task: x\n"


def test_what_is_not_finite_becomes_null(tmp_path: Path) -> None:
    write_result(tmp_path, {**RESULT, "baselines": {"tfidf": {"pearson": math.inf}}})
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["metrics"] == {"accuracy": 0.8125, "loss": None}
    assert written["baselines"] == {"tfidf": {"pearson": None}}


@pytest.mark.parametrize("example", [{"text": 'it\'s "$5" `now`'}, {"text": "a 'b'", "text_pair": "c\nd"}])
def test_the_last_lines_can_be_pasted_into_a_shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], example: dict[str, str]
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    say_result(tmp_path, RESULT, predict_commands(tmp_path, [{**example, "label": "x"}]))
    shown = capsys.readouterr().out.partition("try it     ")[2].strip()
    predict, _, code = shown.rpartition("\n           python -c ")
    assert shlex.split(predict) == ["hfscale", "predict", str(tmp_path), "--text", *example.values()]
    compile(shlex.split(code)[0], "shown", "exec")


def test_probes_of_other_processes_are_no_other_run(tmp_path: Path) -> None:
    (tmp_path / ".hfscale-abc").touch()
    assert check_free(str(tmp_path)) == tmp_path


def shown(tmp_path: Path, example: dict[str, Any], config: str = "{}", settings: str = "") -> list[str]:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(config)
    (tmp_path / "config.yaml").write_text(settings)
    return predict_commands(tmp_path, [example])


def test_words_are_tagged_by_their_first_tokens(tmp_path: Path) -> None:
    _, pipe = shown(tmp_path, {"words": ["a", "b"], "label": ["O", "B-X"]})
    expected = f"""pipeline("token-classification", "{tmp_path}/model", aggregation_strategy="first")("a b")"""
    assert expected in shlex.split(pipe)[2]


def test_texts_are_not_aggregated(tmp_path: Path) -> None:
    ours, pipe = shown(tmp_path, {"text": "a", "label": "x"}, settings="model: {trust_remote_code: false}")
    assert "aggregation" not in pipe and "trust" not in ours + pipe


def test_code_that_was_trusted_has_to_be_trusted_again(tmp_path: Path) -> None:
    settings = "model: {name: x, trust_remote_code: true}"
    ours, pipe = shown(tmp_path, {"text": "a", "label": "x"}, '{"auto_map": {}}', settings)
    assert shlex.split(ours) == ["hfscale", "predict", str(tmp_path), "--trust_remote_code", "--text", "a"]
    assert ", trust_remote_code=True)" in pipe


@pytest.mark.parametrize("metric, worse", [("accuracy", 0.5), ("bits_per_byte", 0.9)])
def test_a_model_that_is_not_worth_its_cost_is_warned_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], metric: str, worse: float
) -> None:
    values = {**RESULT, "metrics": {metric: 0.6}, "baselines": {"simple": {metric: 0.6}, "worse": {metric: worse}}}
    say_result(tmp_path, values)
    assert f"attention  by {metric} this model is no better than simple: train it longer" in capsys.readouterr().out
    say_result(tmp_path, {**values, "baselines": {"worse": {metric: worse}}})
    assert "attention" not in capsys.readouterr().out
