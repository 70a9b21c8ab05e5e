"""The card of an image classifier explains what stands in its table, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from hfscale.hub import image_model_card
from hfscale.schemas import AugmentSettings, CnnSettings, ImageDataSettings, OptimSettings, TrainSettings
from tests.unit.hub.test_card import RESULT


@dataclass(frozen=True, kw_only=True)
class Config:
    model: CnnSettings = field(default_factory=CnnSettings)
    data: ImageDataSettings = field(default_factory=lambda: ImageDataSettings(train="builtin:digits"))
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    optim: OptimSettings = field(default_factory=OptimSettings)
    train: TrainSettings = field(default_factory=lambda: TrainSettings(output_dir="run"))


@pytest.mark.parametrize("names", [[], ["majority"], ["majority", "logistic"]])
def test_only_baselines_that_were_run_are_explained(names: list[str]) -> None:
    result: dict[str, Any] = {**RESULT, "baselines": {name: {"accuracy": 0.5} for name in names}}
    text = image_model_card(Config(), result, ["no", "yes"])
    for name in ("majority", "logistic"):
        assert (f"| {name} |" in text) == (f"`{name}`" in text) == (name in names)
    assert "\n\n\n" not in text
    del result["baselines"]
    assert "`majority`" not in image_model_card(Config(), result, ["no", "yes"])


def test_it_says_what_its_code_needs() -> None:
    text = image_model_card(Config(), RESULT, ["a"])
    assert "transformers 5 or newer" in text and "`cnn.py`, lies beside the weights" in text
