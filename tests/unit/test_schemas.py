"""Settings that can't go together are refused, with the flag and the way out."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hfscale.schemas import METRICS, DataSettings, OptimSettings, TrainSettings, check_task


@pytest.mark.parametrize(
    "block, given, named",
    [
        (OptimSettings, {"momentum": 0.9}, "--optim.momentum has no effect with --optim.name adamw"),
        (OptimSettings, {"momentum": 0.0}, "--optim.momentum has no effect with --optim.name adamw"),
        (OptimSettings, {"nesterov": True}, "--optim.nesterov has no effect"),
        (OptimSettings, {"name": "sgd", "betas": (0.9, 0.99)}, "--optim.betas has no effect with --optim.name sgd"),
        (OptimSettings, {"name": "sgd", "eps": 1e-8}, "--optim.eps has no effect"),
        (OptimSettings, {"name": "sgd", "nesterov": True, "momentum": 0.0}, "--optim.nesterov needs"),
        (OptimSettings, {"lr": 0.0}, "--optim.lr"),
        (OptimSettings, {"lr": float("nan")}, "--optim.lr"),
        (OptimSettings, {"weight_decay": -0.1}, "--optim.weight_decay"),
        (OptimSettings, {"warmup_steps": 1.5}, "--optim.warmup_steps"),
        (OptimSettings, {"warmup_steps": -1}, "--optim.warmup_steps"),
        (OptimSettings, {"max_grad_norm": 0.0}, "--optim.max_grad_norm"),
        (
            DataSettings,
            {"validation": "v.csv", "validation_fraction": 0.2},
            "--data.validation_fraction has no effect",
        ),
        (DataSettings, {"validation": "v.csv", "split_seed": 1}, "--data.split_seed has no effect"),
        (DataSettings, {"label": ["a", "b"], "label_separator": ","}, "--data.label_separator has no effect"),
        (DataSettings, {"validation_fraction": 1.0}, "--data.validation_fraction"),
        (DataSettings, {"validation_fraction": -0.1}, "--data.validation_fraction"),
        (DataSettings, {"text": ["a", "b", "c"]}, "--data.text"),
        (DataSettings, {"text": []}, "--data.text"),
        (DataSettings, {"max_length": 3}, "--data.max_length"),
        (DataSettings, {"delimiter": "||"}, "--data.delimiter"),
        (DataSettings, {"delimiter": ""}, "--data.delimiter"),
        (TrainSettings, {"epochs": 1, "max_steps": 1}, "choose one"),
        (TrainSettings, {"epochs": 0}, "--train.epochs"),
        (TrainSettings, {"max_steps": 0}, "--train.max_steps"),
        (TrainSettings, {"micro_batch_size": 0}, "--train.micro_batch_size"),
        (TrainSettings, {"global_batch_size": 0}, "--train.global_batch_size"),
        (TrainSettings, {"eval_batch_size": 0}, "--train.eval_batch_size"),
        (TrainSettings, {"log_steps": 0}, "--train.log_steps"),
    ],
)
def test_a_block_refuses(block: type, given: dict[str, Any], named: str) -> None:
    needed = {DataSettings: {"train": "t.csv"}, TrainSettings: {"output_dir": "x"}}.get(block, {})
    with pytest.raises(ValueError) as caught:
        block(**needed, **given)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    "task, data, train, named",
    [
        ("single_label_classification", {"label_separator": ","}, {}, "--data.label_separator has no effect"),
        ("regression", {"label_separator": ","}, {}, "--data.label_separator has no effect"),
        ("single_label_classification", {"label": ["a", "b"]}, {}, "--data.label with several columns"),
        ("regression", {}, {"best_metric": "accuracy"}, "pearson, spearman, mse, loss"),
        ("multi_label_classification", {}, {"best_metric": "f1"}, "f1_micro"),
    ],
)
def test_a_task_refuses(task: Any, data: dict[str, Any], train: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_task(task, DataSettings(train="t.csv", **data), TrainSettings(output_dir="x", **train))
    assert named in str(caught.value)


def test_what_goes_together_is_taken() -> None:
    train = TrainSettings(output_dir="x", best_metric="f1_macro")
    check_task("multi_label_classification", DataSettings(train="t", label_separator=","), train)
    check_task("multi_label_classification", DataSettings(train="t", label=["a", "b"]), train)
    OptimSettings(name="sgd", momentum=0.5, nesterov=True, warmup_steps=100)
    DataSettings(train="t", validation_fraction=0)


def test_the_metrics_that_settings_know_are_those_that_are_measured() -> None:
    from hfscale.evaluation.metrics import compute_metrics

    rows: dict[Any, Any] = {
        "single_label_classification": [0, 1, 1],
        "multi_label_classification": [[0, 1], [1, 1]],
        "regression": [0.5, 1.0],
    }
    for task, names in METRICS.items():
        assert (*compute_metrics(task, rows[task], rows[task], 2), "loss") == names


def test_the_home_folder_is_meant_by_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert TrainSettings(output_dir="~/run").output_dir == "/home/someone/run"


@pytest.mark.parametrize(
    "block, values",
    [
        (OptimSettings, {"betas": (2.0, -1.0)}),
        (OptimSettings, {"eps": -1.0}),
        (OptimSettings, {"lr": math.inf}),
        (OptimSettings, {"name": "sgd", "momentum": -0.5}),
        (TrainSettings, {"output_dir": "x", "seed": -1}),
        (TrainSettings, {"output_dir": "x", "epochs": math.inf}),
    ],
)
def test_values_that_no_run_can_use(block: Any, values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"--.*{list(values)[-1]}"):
        block(**values)
