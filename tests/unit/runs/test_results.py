"""What came out of a run, and the lines at its end."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path
from typing import Any

import pytest

from hfscale.runs import complete_run, finished, predict_commands, write_result

RESULT: dict[str, Any] = {
    "metrics": {"accuracy": 0.8125, "loss": math.nan},
    "steps": 40,
    "samples_per_second": 10.0,
    "tokens_per_second": 100.0,
    "matmul_peak_fraction": 0.25,
    "train_seconds": 4.0,
    "peak_memory_bytes": 2**30,
}


def test_what_is_not_finite_becomes_null(tmp_path: Path) -> None:
    write_result(tmp_path, {**RESULT, "baselines": {"tfidf": {"pearson": math.inf}}})
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["metrics"] == {"accuracy": 0.8125, "loss": None}
    assert written["baselines"] == {"tfidf": {"pearson": None}}


def test_a_run_is_complete_when_nothing_is_left_to_do(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    write_result(tmp_path, RESULT)
    assert finished(tmp_path) is None
    complete_run(tmp_path, RESULT)
    assert finished(tmp_path) == "accuracy 0.812 after 40 steps"


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"metrics": {"a": "b"}, "steps": 1, "complete": true}'])
def test_a_strange_result_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "result.json").write_text(content)
    assert finished(tmp_path) is None


@pytest.mark.parametrize("example", [{"text": 'it\'s "$5" `now`'}, {"text": "a 'b'", "text_pair": "c\nd"}])
def test_the_last_lines_can_be_pasted_into_a_shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], example: dict[str, str]
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    complete_run(tmp_path, RESULT, predict_commands(tmp_path, [{**example, "label": "x"}]))
    shown = capsys.readouterr().out.partition("try it     ")[2].strip()
    predict, _, code = shown.rpartition("\n           python -c ")
    assert shlex.split(predict) == ["hfscale", "predict", str(tmp_path), "--text", *example.values()]
    compile(shlex.split(code)[0], "shown", "exec")


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
    complete_run(tmp_path, values)
    assert f"attention  by {metric} this model is no better than simple: train it longer" in capsys.readouterr().out
    complete_run(tmp_path, {**values, "baselines": {"worse": {metric: worse}}})
    assert "attention" not in capsys.readouterr().out


def test_nothing_is_better_than_all_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    complete_run(tmp_path, {**RESULT, "metrics": {"accuracy": 1.0}, "baselines": {"simple": {"accuracy": 1.0}}})
    assert "attention" not in capsys.readouterr().out
