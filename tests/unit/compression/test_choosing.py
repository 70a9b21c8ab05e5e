"""Which choice is recommended, in which words, and the command for it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hfscale.compression.choosing import Choice, command, compared, fastest, good_enough, place, smallest
from hfscale.compression.compress_picture import draw
from hfscale.compression.compress_report import as_markdown, sentences
from hfscale.compression.compressing import Comparisons
from hfscale.compression.kinds import SavedModel
from hfscale.compression.measuring import Measured
from hfscale.compression.turns import Timed
from hfscale.compression.variants import Variant
from hfscale.schemas import CompressSettings


def measured(value: float, metric: str = "accuracy", spread: float = 0.0) -> Measured:
    values = value + spread * np.resize([1.0, -1.0], 100)
    return Measured(
        10, 20, 5, {metric: value, "other": 1.0}, values, "100 rows", "one example alone", 9, (16,), "cpu", 1, 100
    )


def choice(variant: Variant, value: float, size: int, ms: float, **more: Any) -> Choice:
    known = measured(value, **more)
    return compared(
        Choice(variant, known, Timed(ms, 2 * ms, 1.0, 9, 1), size), measured(0.8, more.get("metric", "accuracy"))
    )


FULL = choice(Variant("full", Path("model")), 0.8, 100 * 2**20, 10)
HALF = choice(Variant("bfloat16", Path("half"), bits=16), 0.796, 50 * 2**20, 5, spread=0.02)
FOUR = choice(Variant("4 bits", Path("four"), bits=4), 0.7, 20 * 2**20, 20)
GONE = Choice(Variant("8 bits", note="quantization needs bitsandbytes: pip install 'hfscale[quant]'", bits=8))
PRUNED = choice(Variant("pruned 0.5", Path("pruned"), sparsity=0.5), 0.75, 60 * 2**20, 2)


def saved(folder: Path, kind: Any = "single_label_classification", **run: Any) -> SavedModel:
    return SavedModel(folder, None, kind, run)


def line(found: Choice, folder: Path, **given: Any) -> str:
    settings = CompressSettings(**given)
    assert FULL.measured
    made = command(found, FULL.measured, saved(folder / "run" / "model"), folder / "run", settings)
    assert made
    return made.replace(f"{folder}/", "")


def test_points_are_hundredths_or_percent_of_a_loss() -> None:
    assert HALF.points == pytest.approx(-0.4) and HALF.points_error == pytest.approx(2.0, rel=0.01)
    worse = choice(Variant("x"), 0.88, 1, 1, metric="bits_per_byte")
    assert worse.points == pytest.approx(-10)
    assert good_enough([FULL, HALF, FOUR, GONE, PRUNED], 1.0) == [FULL, HALF]
    assert good_enough([FULL, HALF, FOUR, GONE, PRUNED], 5.0) == [FULL, HALF, PRUNED]
    assert smallest([FULL, HALF, PRUNED]) is HALF and fastest([FULL, HALF, PRUNED]) is PRUNED


def test_commands_take_free_names_and_what_they_have_to_be_allowed(tmp_path: Path) -> None:
    assert line(HALF, tmp_path) == "hfscale export run --bits 16"
    assert line(FOUR, tmp_path) == "hfscale export run --bits 4 --tolerance 0.138"
    assert line(PRUNED, tmp_path, examples=64) == "hfscale prune run --sparsity 0.5"
    assert line(HALF, tmp_path, examples=64).endswith("--bits 16 --examples 64")
    for taken in ("run/model-16bit", "run/model-16bit-2", "run-pruned"):
        (tmp_path / taken).mkdir(parents=True)
    assert line(HALF, tmp_path).endswith("--output run/model-16bit-3")
    assert line(PRUNED, tmp_path).endswith("--output run-pruned-2")
    (tmp_path / "run" / "model").mkdir()
    (tmp_path / "run" / "model" / "adapter_config.json").write_text("{}")
    merged = "hfscale export run --merge && hfscale prune run/model-merged --sparsity 0.5"
    assert line(PRUNED, tmp_path) == merged
    assert line(HALF, tmp_path) == "hfscale export run --merge --bits 16"


def test_an_export_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    model = tmp_path / "run" / "model"
    model.mkdir(parents=True)
    (model / "model.safetensors").write_text("")
    for name, told in (
        ("16bit", {"bits": 8}),
        ("16bit-2", {"bits": 16}),
        ("4bit", {"bits": 4, "merged_into": "base"}),
    ):
        folder = tmp_path / "run" / f"model-{name}"
        folder.mkdir()
        (folder / "export.json").write_text(json.dumps({"format": "safetensors", "merged_into": None, **told}))
    assert FULL.measured
    there = (HALF, FULL.measured, saved(model), tmp_path / "run", CompressSettings())
    assert command(*there) is None and place(HALF, saved(model)) == model.with_name("model-16bit-2")
    assert line(FOUR, tmp_path).startswith("hfscale export run --bits 4 ")
    os.utime(model / "model.safetensors", (2e10, 2e10))  # trained again since
    assert command(*there) is not None and place(HALF, saved(model)) is None


def test_that_no_answer_differs_is_no_certainty() -> None:
    same = choice(Variant("8 bits", Path("run/model-8bit"), bits=8), 0.8, 10, 1)
    for tolerance, doubt in ((1.0, True), (3.5, False)):
        found = Comparisons("run", [FULL, same], "100 rows", True, tolerance, [("smallest", same, None)])
        said = dict(sentences(found))
        assert "0.0: no answer differs, which rules out more than 3.0 points)" in said["columns"]
        assert ("these rows are too few to tell so small a change" in said["take"]) is doubt
    assert said["with"] == "nothing to run: it is there already, run/model-8bit"


def test_what_is_said_and_drawn(tmp_path: Path) -> None:
    picks = [("smallest", HALF, "hfscale export run --bits 16"), ("fastest", PRUNED, "hfscale prune run")]
    found = Comparisons("run", [FULL, HALF, GONE, PRUNED], "100 rows", True, 1.0, picks)
    said = dict(sentences(found)[:3])
    assert said["take"].startswith("bfloat16: the smallest within 1 point of full (-0.4 ± 2.0 points on 100 rows")
    assert "too few to tell so small a change" in said["take"]
    assert [words for what, words in sentences(found) if what == "with"] == [line for *_, line in picks]
    text = as_markdown(found, "compress.png")
    assert "| 8 bits | - | - | - | - | - | - | - | - | quantization needs bitsandbytes" in text
    assert "| full | 100.0 | " in text and "- with: `hfscale prune run`" in text
    only_full = Comparisons("run", [FULL, GONE], "100 rows", True, 1.0, [("smallest", FULL, None)])
    assert sentences(only_full)[-1] == (
        "take",
        "full: the smallest within 1 point of full, so that there is nothing to make",
    )
    draw(found, tmp_path / "one.png")
    draw(only_full, tmp_path / "two.png")
    assert (tmp_path / "one.png").stat().st_size > (tmp_path / "two.png").stat().st_size > 5_000
    values = found.as_json()
    assert values["choices"][2]["note"].startswith("quantization needs") and values["choices"][1]["held_bytes"] == 10
