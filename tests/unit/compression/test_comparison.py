"""What two models differ by is found, at real positions alone, and judged in the right direction."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from hfscale.batch import Batch
from hfscale.compression import Comparison, compare
from hfscale.compression.comparison import judge_bits, judge_same
from hfscale.compression.inputs import Inputs, Scored
from hfscale.errors import ModelError


def compared(one: Any, other: Any, scores: tuple[float, float] | None = None, mask: Any = None) -> Comparison:
    ids = torch.arange(5, 17).view(2, 6)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids) if mask is None else mask}
    values = iter(scores or ())
    score = (lambda model: Scored({"loss": next(values)}, np.empty(0))) if scores else None
    given = Inputs("2 texts", [Batch(inputs, 2, 12)], score)
    return compare(Accelerator(), ("old", one), ("new", other), given)


def test_the_largest_difference_is_that_of_a_changed_bias(tiny_model: Path) -> None:
    torch.manual_seed(0)
    one: Any = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=3)
    assert compared(one, copy.deepcopy(one)).largest_difference == 0
    other = copy.deepcopy(one)
    other.classifier.bias.data[1] += 0.5
    found = compared(one, other)
    assert found.largest_difference == pytest.approx(0.5, abs=1e-6)
    assert found.largest_change == pytest.approx(0.5 / found.largest_logit, abs=1e-6)
    with pytest.raises(ModelError, match=r"old -> new: logits change by .* on 2 texts; that is more than --tolerance"):
        judge_same(found, None)
    judge_same(found, 100)
    other.classifier.bias.data[1] = math.nan
    broken = compared(one, other)
    with pytest.raises(ModelError, match="change by nan"):
        judge_same(broken, 1e9)
    assert broken.as_json()["largest_difference"] is None


def test_padding_does_not_count(tiny_model: Path) -> None:
    torch.manual_seed(0)
    one: Any = AutoModelForTokenClassification.from_pretrained(tiny_model, num_labels=3)
    other = copy.deepcopy(one)
    other.bert.embeddings.position_embeddings.weight.data[4:, 0] += 1  # read behind the fourth token alone
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]] * 2)
    assert compared(one, other, mask=mask).largest_difference == 0
    assert compared(one, other).largest_difference > 0.01


def of(metric: str | None, before: float, after: float, change: float = 0.0) -> Comparison:
    return Comparison("old", "new", "2 texts", 1.0, 10.0, change, metric, before, after)


def test_a_metric_may_rise_and_a_loss_may_fall() -> None:
    assert of("accuracy", 0.8, 0.9).metric_fall == of("perplexity", 20.0, 10.0).metric_fall == 0
    assert of("accuracy", 0.8, 0.6).metric_fall == pytest.approx(0.25)
    assert of("bits_per_byte", 2.0, 2.5).metric_fall == pytest.approx(0.25)
    judge_bits(of("accuracy", 0.8, 0.79), 8, None)
    with pytest.raises(
        ModelError, match=r"accuracy goes from 0.8000 to 0.7000, 12.50% worse.*--tolerance 0.05 allows"
    ):
        judge_bits(of("accuracy", 0.8, 0.7), 4, None)
    judge_bits(of("accuracy", 0.8, 0.7), 4, 0.2)
    with pytest.raises(ModelError, match="nan% worse"):
        judge_bits(of("loss", 1.0, math.nan), 4, 0.2)


def test_without_right_answers_the_logits_decide() -> None:
    judge_bits(of(None, 0, 0, change=0.2), 4, None)
    with pytest.raises(ModelError, match=r"logits change by 0.2 of them in the mean.*--tolerance 0.1 allows"):
        judge_bits(of(None, 0, 0, change=0.2), 8, None)
