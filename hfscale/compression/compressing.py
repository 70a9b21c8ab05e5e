"""All choices for a run's model, made and measured side by side."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from hfscale import console
from hfscale.compression.choosing import (
    Choice,
    command,
    compared,
    fastest,
    good_enough,
    is_full,
    place,
    smallest,
)
from hfscale.compression.exporting import processor_of
from hfscale.compression.inputs import run_inputs
from hfscale.compression.kinds import SavedModel
from hfscale.compression.measuring import Job, Measured
from hfscale.compression.turns import Timed, Worker, time_all
from hfscale.compression.variants import Variant, full_model, make_variants
from hfscale.errors import DataError
from hfscale.runs.results import finite
from hfscale.schemas import CompressSettings

_PROCESS_BYTES = 800 * 2**20  # of a process with the libraries and no model


@dataclass(frozen=True)
class Comparisons:
    """The rows of the table, the full model first, and what they were measured on."""

    model: str
    choices: list[Choice]
    inputs: str
    side_by_side: bool
    """Whether all models were in memory at the same time, and timed by turns."""
    tolerance: float
    recommended: list[tuple[str, Choice, str | None]]
    """(by which rule, the choice, the command that makes it); None where the choice's folder holds it already."""

    @property
    def measured(self) -> list[Choice]:
        """Those that could be."""
        return [each for each in self.choices if each.measured]

    @property
    def full(self) -> Choice:
        return self.choices[0]

    @property
    def place(self) -> str:
        """Where it was measured, in words."""
        known = self.full.measured
        assert known
        if known.device != "cpu":
            return known.device
        return f"cpu, {known.threads} thread{'s' if known.threads > 1 else ''}"

    @property
    def room(self) -> float:
        """Points by which a choice may differ although no answer does, at 95%: the rule of three (Hanley and
        Lippman-Hand 1983); 0 of metrics that are no share of the examples, to which it doesn't apply."""
        known = self.full.measured
        assert known
        return 300 / known.num_examples if self.full.metric[0] == "accuracy" else 0.0

    def as_json(self) -> dict[str, Any]:
        """What stands in `compress.json`."""
        known, timed = self.full.measured, self.full.timed
        assert known and timed
        return finite(
            {
                "model": self.model,
                "inputs": self.inputs,
                "device": known.device,
                "threads": known.threads,
                "side_by_side": self.side_by_side,
                "timed": {"examples": timed.num_singles, "batches": timed.num_batches},
                "tolerance": self.tolerance,
                "choices": [_plain(each.as_json()) for each in self.choices],
                "recommended": [
                    {"rule": rule, "name": each.name, "command": line} for rule, each, line in self.recommended
                ],
            }
        )


def compress(saved: SavedModel, settings: CompressSettings, also: list[Path], run: Path, folder: Path) -> Comparisons:
    """Make every choice inside of `folder`, measure each in a process of its own, and recommend.

    Raises:
        ModelError: where the full model can't be loaded.
        DataError: where the run's validation rows can't be read, or it has none.
    """
    full = full_model(saved, settings)
    _try_inputs(saved, full, settings, run)
    jobs = []
    for variant in (full, *make_variants(saved, full, settings, also, run, folder)):
        console.say(f"made       {variant.name}" if variant.folder else f"left out   {variant.name}: {variant.note}")
        jobs.append(variant)
    choices, side_by_side = _measured(jobs, settings, run)
    inputs = choices[0].measured
    assert inputs
    choices = [compared(each, inputs) if each.measured else each for each in choices]
    return Comparisons(
        saved.folder.resolve().parent.name, choices, inputs.inputs, side_by_side, settings.tolerance,
        _recommended(choices, saved, run, settings),
    )  # fmt: skip


def _try_inputs(saved: SavedModel, full: Variant, settings: CompressSettings, run: Path) -> None:
    """Before anything is made for them."""
    from accelerate import Accelerator

    try:
        run_inputs(Accelerator(), saved, processor_of(saved, full.base), settings)
    except DataError as error:
        raise DataError(f"{run} can't be measured on its validation rows: {error}") from None


def _measured(variants: list[Variant], settings: CompressSettings, run: Path) -> tuple[list[Choice], bool]:
    """(a choice for each, whether they were timed side by side)."""
    sizes = {each.name: each.disk_bytes if each.folder else None for each in variants}
    there = [each for each in variants if each.folder]
    side_by_side = _fit([sizes[each.name] or 0 for each in there])
    found: dict[str, tuple[Measured, Timed] | str] = {}
    for group in [there] if side_by_side else [[each] for each in there]:
        found |= _group(group, settings, run)
    choices = []
    for variant in variants:
        known = found.get(variant.name)
        if isinstance(known, tuple):
            choices.append(Choice(variant, *known, disk_bytes=sizes[variant.name]))
            continue
        if variant is variants[0]:
            raise DataError(f"the model of {run} can't be measured: {known}")
        note = known or variant.note
        choices.append(Choice(dataclasses.replace(variant, folder=None, note=note)))
    return choices, side_by_side


def _group(variants: list[Variant], settings: CompressSettings, run: Path) -> dict[str, tuple[Measured, Timed] | str]:
    """What is known of each, or why nothing is: all in memory together, loaded one after the other."""
    found: dict[str, Any] = {}
    workers: dict[str, Worker] = {}
    with contextlib.ExitStack() as stack:
        for variant in variants:
            assert variant.folder
            in_float32 = is_full(Choice(variant))
            worker = stack.enter_context(Worker(Job(variant.folder, run, variant.base, in_float32, settings)))
            found[variant.name] = worker.measured()
            if isinstance(found[variant.name], Measured):
                workers[variant.name] = worker
                name, value = next(iter(found[variant.name].metrics.items()))
                console.say(f"measured   {variant.name}: {name} {value:.4f}")
            elif in_float32:  # nothing to compare the others with
                return found
        timed = time_all(list(workers.values()), [found[name] for name in workers]) if workers else []
    return found | {name: (found[name], speed) for name, speed in zip(workers, timed, strict=True)}


def _fit(sizes: list[int]) -> bool:
    """Whether all models have room in memory at the same time."""
    import torch

    if torch.cuda.is_available():
        return 1.5 * sum(sizes) < torch.cuda.mem_get_info()[0]
    return sum(1.5 * size + _PROCESS_BYTES for size in sizes) < psutil.virtual_memory().available


def _recommended(
    choices: list[Choice], saved: SavedModel, run: Path, settings: CompressSettings
) -> list[tuple[str, Choice, str | None]]:
    full = choices[0].measured
    assert full
    near = good_enough(choices, settings.tolerance)
    found = {"smallest": smallest(near), "fastest": fastest(near)}
    return [(rule, _placed(each, saved), command(each, full, saved, run, settings)) for rule, each in found.items()]


def _placed(choice: Choice, saved: SavedModel) -> Choice:
    """With the folder that stays: the one that was measured is removed again."""
    return dataclasses.replace(choice, variant=dataclasses.replace(choice.variant, folder=place(choice, saved)))


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: float(value) if hasattr(value, "dtype") else value for name, value in values.items()}
