"""Which of the measured choices to take, and the command that makes it."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hfscale.compression.comparison import METRIC_LIMITS
from hfscale.compression.inputs import best_metric
from hfscale.compression.kinds import SavedModel
from hfscale.compression.measuring import Measured
from hfscale.compression.turns import Timed
from hfscale.compression.variants import FULL, Variant
from hfscale.evaluation.outcomes import standard_error
from hfscale.schemas import CompressSettings
from hfscale.schemas.seq2seq import SEQ2SEQ_METRICS
from hfscale.training.best import LOWER_IS_BETTER

_LEAST_DIGITS = 3  # of a --tolerance that a command gets along


@dataclass(frozen=True)
class Choice:
    """One row of the table."""

    variant: Variant
    measured: Measured | None = None
    """None, as is `timed`, where it couldn't be made or run; the variant's note says why."""
    timed: Timed | None = None
    disk_bytes: int | None = None
    points: float | None = None
    """How the main metric changed from the full model's: see `points_of`; up is better."""
    points_error: float | None = None
    """Its standard error, over the same rows for both."""

    @property
    def name(self) -> str:
        return self.variant.name

    @property
    def metric(self) -> tuple[str, float]:
        """The main one."""
        assert self.measured
        return next(iter(self.measured.metrics.items()))

    def as_json(self) -> dict[str, Any]:
        """For `compress.json`; null where it isn't known, or is not finite."""
        values: dict[str, Any] = {"name": self.name, "note": self.variant.note, "disk_bytes": self.disk_bytes}
        for part, left_out in ((self.measured, ("spread", "singles", "batches", "inputs", "timed")), (self.timed, ())):
            known = part._asdict() if part else {}
            values |= {name: value for name, value in known.items() if name not in left_out}
        values |= {"points": self.points, "points_error": self.points_error}
        return values


def compared(choice: Choice, full: Measured) -> Choice:
    """The choice with its change from the full model."""
    measured = choice.measured
    assert measured
    name, before = next(iter(full.metrics.items()))
    after = measured.metrics[name]
    scale, spread = points_of(name, before), measured.spread - full.spread
    error = standard_error(spread * scale)
    return dataclasses.replace(choice, points=(after - before) * scale, points_error=error)


def points_of(name: str, before: float) -> float:
    """Points of a change by 1 of a metric: hundredths; of BLEU and chrF, which reach to 100, the metric's own; of a
    loss percent of what it was `before`, less being better."""
    if name in LOWER_IS_BETTER:
        return -100.0 / (abs(before) or 1.0)
    return 1.0 if name in SEQ2SEQ_METRICS["translation"] else 100.0


def good_enough(choices: list[Choice], tolerance: float) -> list[Choice]:
    """Those that cost no more than so many points, the full model at least."""
    return [
        each
        for number, each in enumerate(choices)
        if not number or (each.points is not None and each.points >= -tolerance - 1e-9)
    ]


def smallest(choices: list[Choice]) -> Choice:
    """On the disk; of two as large the one that answers better."""
    return min(choices, key=lambda each: (each.disk_bytes or math.inf, -(each.points or 0)))


def fastest(choices: list[Choice]) -> Choice:
    """By its median time for one example."""
    return min(choices, key=lambda each: each.timed.latency_median_ms if each.timed else math.inf)


def command(choice: Choice, full: Measured, saved: SavedModel, run: Path, settings: CompressSettings) -> str | None:
    """A line for the shell that makes the choice for good; None where it is there already."""
    variant, model = choice.variant, saved.folder
    if place(choice, saved):
        return None
    if variant.sparsity is not None:
        return _prune(variant.sparsity, run, saved, settings)
    words = ["--merge"] * saved.is_adapter + (["--bits", str(variant.bits)] if variant.bits else [])
    words += _tolerance(choice, full, best_metric(saved))
    return _export(run, model, words, _export_name(variant, saved), settings)


def place(choice: Choice, saved: SavedModel) -> Path | None:
    """Where the choice is already: its own folder, or an earlier export's beside the model; None where it isn't."""
    variant, model = choice.variant, saved.folder
    if variant.sparsity is not None:
        return None
    if variant.bits is None and variant.name != "merged":
        return variant.folder
    beside = model.with_name(f"{model.name}-{_export_name(variant, saved)}")
    return next((folder for folder in _numbered(beside) if folder.exists() and _holds(folder, variant, saved)), None)


def _export_name(variant: Variant, saved: SavedModel) -> str:
    return "-".join(["merged"] * saved.is_adapter + ([f"{variant.bits}bit"] if variant.bits else []))


def _holds(folder: Path, variant: Variant, saved: SavedModel) -> bool:
    """Whether `hfscale export` has made this variant there, of the weights that the model has now."""
    try:
        told = json.loads((folder / "export.json").read_text(encoding="utf-8"))
        made = (told["bits"], told["format"], bool(told["merged_into"]))
        newest = max(path.stat().st_mtime for path in saved.folder.glob("*.safetensors"))
        return made == (variant.bits, "safetensors", saved.is_adapter) and (
            (folder / "export.json").stat().st_mtime >= newest
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _export(run: Path, model: Path, words: list[str], name: str, settings: CompressSettings) -> str:
    if settings.base:
        words = [*words, "--base", settings.base]
    for flag, value, usual in (("examples", settings.examples, 1_000), ("batch_size", settings.batch_size, 16)):
        words = words if value == usual else [*words, f"--{flag}", str(value)]
    return shlex.join(["hfscale", "export", str(run), *words, *_output(model.with_name(f"{model.name}-{name}"))])


def _prune(sparsity: float, run: Path, saved: SavedModel, settings: CompressSettings) -> str:
    words, model = ["--sparsity", f"{sparsity:g}"], saved.folder
    if not saved.is_adapter:
        usual = run if run.name not in ("", "..") else run.resolve()
        return shlex.join(["hfscale", "prune", str(run), *words, *_output(usual.with_name(f"{usual.name}-pruned"))])
    merged = _free(model.with_name(f"{model.name}-merged"))
    before = _export(run, model, ["--merge"], "merged", settings)
    after = _output(merged.with_name(f"{merged.name}-pruned"))
    return f"{before} && {shlex.join(['hfscale', 'prune', str(merged), *words, *after])}"


def _output(usual: Path) -> list[str]:
    """`--output`, where the place that the command would take is taken."""
    free = _free(usual)
    return [] if free == usual else ["--output", str(free)]


def _free(path: Path) -> Path:
    return next(each for each in _numbered(path) if not each.exists())


def _numbered(path: Path) -> list[Path]:
    return [path, *(path.with_name(f"{path.name}-{number}") for number in range(2, 1_000))]


def _tolerance(choice: Choice, full: Measured, judge: str | None) -> list[str]:
    """What the export has to be allowed where its own limit is stricter than what was agreed to here: it judges by the
    metric that chose the run's best step."""
    bits, measured = choice.variant.bits, choice.measured
    if bits is None or measured is None:
        return []
    name = judge if judge in full.metrics else choice.metric[0]
    fall = (full.metrics[name] - measured.metrics[name]) / (abs(full.metrics[name]) or 1.0)
    fall = -fall if name in LOWER_IS_BETTER else fall
    if fall < 0.9 * METRIC_LIMITS[bits]:
        return []
    return ["--tolerance", f"{math.ceil(fall * 1.1 * 10**_LEAST_DIGITS) / 10**_LEAST_DIGITS:g}"]


def is_full(choice: Choice) -> bool:
    """Whether it is the model as it was trained."""
    return choice.name == FULL
