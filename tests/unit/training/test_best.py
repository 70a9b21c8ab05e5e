"""Which evaluation's weights are kept."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import PartialState
from safetensors.torch import save_model

from hfscale.training.best import BestModel


class Alone:
    """What `BestModel` asks of an `Accelerator`, in a run of one process."""

    is_main_process, num_processes, distributed_type = True, 1, "NO"


@pytest.fixture(autouse=True)
def one_process() -> None:
    PartialState(cpu=True)


def save_into(folder: Path, model: torch.nn.Module) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_model(model, str(folder / "model.safetensors"))


def best_of(tmp_path: Path, values: list[float], metric: str | None = "accuracy") -> Any:
    """Offer a model whose weight is the number of the evaluation."""
    model = torch.nn.Linear(1, 1, bias=False)

    best = BestModel(Alone(), model, lambda folder, _: save_into(folder, model), tmp_path, metric)  # type: ignore[arg-type]
    for number, value in enumerate(values, start=1):
        torch.nn.init.constant_(model.weight, number)
        best.offer(number, {metric or "accuracy": value, "other": -value})
    best.restore(len(values))
    return best, model.weight.item()


@pytest.mark.parametrize(
    "values, metric, step",
    [
        ([0.1, 0.3, 0.2], "accuracy", 2),
        ([0.1, 0.3, 0.2], None, 2),
        ([0.3, 0.1, 0.2], "loss", 2),
        ([0.3, 0.1, 0.2], "mse", 2),
        ([0.3, 0.3], "accuracy", 1),
        ([0.1, 0.2], "accuracy", 2),
        ([0.1, math.nan, 0.05], "accuracy", 1),
        ([math.nan, 0.1, 0.3, 0.2], "accuracy", 3),
    ],
)
def test_the_best_evaluation_is_restored(tmp_path: Path, values: list[float], metric: str | None, step: int) -> None:
    best, weight = best_of(tmp_path, values, metric)
    assert (best.step, weight) == (step, step)


def test_evaluations_without_a_better_one_are_counted(tmp_path: Path) -> None:
    assert best_of(tmp_path, [0.1, 0.3, 0.3, 0.2])[0].evaluations_since == 2
    assert best_of(tmp_path, [0.1, 0.2])[0].evaluations_since == 0


def test_a_tie_goes_to_the_lower_loss_also_in_a_run_that_goes_on(tmp_path: Path) -> None:
    evaluations = [(0.5, 0.9), (0.9, 0.7), (0.9, math.nan), (0.9, 0.4), (0.9, 0.4), (0.8, 0.1), (0.9, 0.3)]
    model = torch.nn.Linear(1, 1)

    def chosen(best: BestModel, first: int, last: int) -> BestModel:
        for step in range(first, last + 1):
            accuracy, loss = evaluations[step - 1]
            best.offer(step, {"accuracy": accuracy, "loss": loss})
        return best

    def new() -> BestModel:
        return BestModel(Alone(), model, lambda folder, _: save_into(folder, model), tmp_path, None)  # type: ignore[arg-type]

    for stop in range(1, len(evaluations)):
        again, whole = new(), chosen(new(), 1, len(evaluations))
        before = chosen(new(), 1, stop)
        assert before.step == [1, 2, 2, 4, 4, 4][stop - 1]
        assert before.evaluations_since == [0, 0, 1, 2, 3, 4][stop - 1]
        again.load_state_dict(json.loads(json.dumps(before.state_dict(), allow_nan=False)))
        assert chosen(again, stop + 1, len(evaluations)).state_dict() == whole.state_dict()
        assert again.step == 7


def test_a_checkpoint_without_a_loss_keeps_the_earlier_of_a_tie(tmp_path: Path) -> None:
    best, _ = best_of(tmp_path, [0.1, 0.3])
    state = best.state_dict()
    del state["loss"]
    best.load_state_dict(state)
    assert not best.offer(3, {"accuracy": 0.3, "loss": 0.01})


def test_only_the_best_stays(tmp_path: Path) -> None:
    best_of(tmp_path, [0.1, 0.3, 0.2, 0.4, 0.1])
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["best-000004"]


@pytest.mark.parametrize("values", [[0.1, 0.3, 0.2], [math.nan]])
def test_a_run_that_goes_on_knows_its_best(tmp_path: Path, values: list[float]) -> None:
    best, _ = best_of(tmp_path, values)
    state = json.loads(json.dumps(best.state_dict(), allow_nan=False))
    again = BestModel(Alone(), torch.nn.Linear(1, 1), None, tmp_path, "accuracy")  # type: ignore[arg-type]
    again.load_state_dict(state)
    assert (again.step, again.value, again.evaluations_since) == (best.step, best.value, best.evaluations_since)


def test_a_best_model_that_is_gone_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best, _ = best_of(tmp_path, [0.1, 0.3, 0.2])
    shutil.rmtree(best.folder)
    again = BestModel(Alone(), torch.nn.Linear(1, 1), None, tmp_path, "accuracy")  # type: ignore[arg-type]
    again.load_state_dict(best.state_dict())
    assert (again.step, again.value) == (None, None)
    assert "best-000002, is gone" in capsys.readouterr().err
