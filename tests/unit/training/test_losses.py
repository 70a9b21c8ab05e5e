"""Our losses, divided by their number of targets, are those of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from hfscale.training import classification_loss, loss_sum

LABELS: dict[Any, Any] = {
    "single_label_classification": torch.tensor([2, 0, 1, 2, 2]),
    "multi_label_classification": torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1]]),
    "regression": torch.tensor([0.5, -2.0, 3.0, 0.0, 10.0]),
}


def inputs_of(labels: torch.Tensor) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 25, (len(labels), 7), generator=generator)
    mask = torch.ones_like(ids)
    mask[-1, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


@pytest.fixture(params=LABELS)
def problem(request: pytest.FixtureRequest, tiny_model: Path) -> Any:
    task = request.param
    model = AutoModelForSequenceClassification.from_pretrained(
        tiny_model, num_labels=1 if task == "regression" else 3, problem_type=task
    )
    return task, model.eval()


@pytest.mark.parametrize("rows", [1, 5])
def test_the_mean_is_the_loss_of_transformers(problem: Any, rows: int) -> None:
    task, model = problem
    inputs = inputs_of(LABELS[task][:rows])
    total, count = classification_loss(task)(model, inputs)
    assert count == inputs["labels"].numel()
    # transformers squeezes a regression's single row away on both sides
    torch.testing.assert_close(total / count, model(**inputs).loss.reshape(()))
    assert "labels" in inputs


def test_sums_of_parts_are_the_sum_of_the_whole(problem: Any) -> None:
    task, model = problem
    inputs = inputs_of(LABELS[task])
    loss_fn = classification_loss(task)
    whole, count = loss_fn(model, inputs)
    parts = [loss_fn(model, {k: v[rows] for k, v in inputs.items()}) for rows in (slice(0, 1), slice(1, 5))]
    torch.testing.assert_close(parts[0][0] + parts[1][0], whole)
    assert parts[0][1] + parts[1][1] == count


@pytest.mark.parametrize("task", LABELS)
def test_half_precision_logits_are_summed_in_float32(task: Any) -> None:
    logits = torch.randn(5, 1 if task == "regression" else 3).bfloat16()
    total = loss_sum(task, logits, LABELS[task])
    assert total.dtype == torch.float32
    assert total == loss_sum(task, logits.float(), LABELS[task])


def test_words_without_a_tag_do_not_count(tiny_model: Path) -> None:
    model = AutoModelForTokenClassification.from_pretrained(tiny_model, num_labels=3).eval()
    labels = torch.tensor([[-100, 0, 1, -100, 2, 2, -100], [-100, 1, 1, -100, -100, -100, -100]])
    inputs = inputs_of(labels)
    total, count = classification_loss("token_classification")(model, inputs)
    assert count == 6
    torch.testing.assert_close(total / count, model(**inputs).loss)


def test_the_ends_of_a_span_are_two_targets_and_never_in_the_padding(tiny_model: Path) -> None:
    model = AutoModelForQuestionAnswering.from_pretrained(tiny_model).eval()
    inputs = inputs_of(torch.tensor([[2, 4], [0, 0], [1, 3]]))
    total, count = classification_loss("question_answering")(model, inputs)
    assert count == 6
    expected = torch.zeros(())
    for ids, mask, (start, end) in zip(*inputs.values(), strict=True):
        ids = ids[mask == 1][None]  # without padding, over which transformers' own loss spreads probability
        expected = expected + 2 * model(ids, start_positions=start[None], end_positions=end[None]).loss
    torch.testing.assert_close(total, expected)


def test_known_values() -> None:
    zeros = torch.zeros(2, 4)
    log = torch.log(torch.tensor(4.0))
    torch.testing.assert_close(loss_sum("single_label_classification", zeros, torch.tensor([0, 3])), 2 * log)
    torch.testing.assert_close(loss_sum("multi_label_classification", zeros, torch.zeros(2, 4)), 4 * log)
    numbers = loss_sum("regression", torch.tensor([[1.0], [2.0]]), torch.tensor([3.0, 1.0]))
    assert numbers == 5.0
