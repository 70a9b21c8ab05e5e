"""A classifier on held-out rows: every row once, in the table's order, whatever the batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from transformers import AutoModelForSequenceClassification

from hfscale.data import EvalBatches, Labels, tokenize
from hfscale.evaluation import compute_metrics, predict_logits, score_classifier
from hfscale.evaluation.metrics import decode
from tests.support.rows import table_of
from tests.support.tiny import reviews

ROWS = reviews(23)
TARGETS: dict[Any, list[Any]] = {
    "single_label_classification": [row["label"] for row in ROWS],
    "multi_label_classification": [row["text"].split()[:2] for row in ROWS],
    "regression": [float(len(row["text"])) / 50 for row in ROWS],
}


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


@pytest.fixture(params=TARGETS)
def problem(request: pytest.FixtureRequest, tiny_model: Path, tiny_tokenizer: Any) -> Any:
    task = request.param
    table = table_of([row["text"] for row in ROWS], TARGETS[task])
    labels = Labels.of(table, task)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        tiny_model, num_labels=len(labels.names), problem_type=task
    )
    return task, tokenize(table, tiny_tokenizer, 64, labels), model


def one_by_one(table: Any, model: Any) -> np.ndarray:
    model.eval()
    with torch.no_grad():
        return np.stack([model(torch.tensor([ids])).logits[0].numpy() for ids in table["input_ids"]])


@pytest.mark.parametrize("batch_size", [1, 4, 23, 64])
def test_logits_come_in_the_tables_order(accelerator: Accelerator, problem: Any, batch_size: int) -> None:
    _, table, model = problem
    model.train()
    logits = predict_logits(accelerator, model, EvalBatches(table, pad_token_id=0, batch_size=batch_size))
    np.testing.assert_allclose(logits, one_by_one(table, model), atol=1e-5)


def test_scores_are_those_of_the_logits_and_the_loss_of_transformers(accelerator: Accelerator, problem: Any) -> None:
    task, table, model = problem
    batches = EvalBatches(table, pad_token_id=0, batch_size=5)
    values = score_classifier(accelerator, model, batches, table, Labels(task, ()))
    logits = predict_logits(accelerator, model, EvalBatches(table, pad_token_id=0, batch_size=5))
    targets = np.asarray(table["labels"])
    expected = compute_metrics(task, decode(task, logits), targets, logits.shape[-1])
    assert list(values) == [*expected, "loss"]
    assert values == pytest.approx({**expected, "loss": values["loss"]}, abs=1e-5)
    with torch.no_grad():
        batch = next(iter(EvalBatches(table, pad_token_id=0, batch_size=23)))
        assert values["loss"] == pytest.approx(model(**batch.inputs).loss.item(), rel=1e-5)


def test_a_row_that_is_missing_is_noticed(accelerator: Accelerator, problem: Any) -> None:
    _, table, model = problem
    batches = EvalBatches(table, pad_token_id=0, batch_size=5)
    batches.num_examples += 1
    with pytest.raises(AssertionError, match="left out"):
        predict_logits(accelerator, model, batches)
