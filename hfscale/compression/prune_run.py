"""Prune the model of a run, and measure what that cost and what it gave."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator

from hfscale import console, files, models
from hfscale.compression.movement_run import forget, learn_what_goes
from hfscale.compression.pruning import (
    choose,
    magnitude_importance,
    taylor_importance,
    without_units,
    zero_share,
    zero_smallest,
)
from hfscale.compression.pruning_card import pruned_card
from hfscale.compression.pruning_data import RunData, image_data, text_data
from hfscale.compression.pruning_speed import time_by_turns
from hfscale.compression.pruning_units import CNN, Units, find_units, heads_stay, weighty_modules
from hfscale.errors import DataError, HfscaleError
from hfscale.runs.results import finite
from hfscale.schemas import PruneSettings

_TOKENS, _TEXTS, _IMAGES = 64, 8, 64  # of the batches that are timed


class _Family(NamedTuple):
    load: Callable[[Path], Any]
    save: Callable[..., None]
    data: Callable[..., RunData]


def prune_run(
    model_folder: Path,
    model_type: str,
    run_settings: dict[str, Any],
    how: PruneSettings,
    output: Path,
    run: str | None = None,
) -> dict[str, Any]:
    """Write the pruned model, a plain Hugging Face folder, with its card and `prune.json`; the given one stays.

    All that is measured after pruning is measured on the model as it was read back from the new folder.

    Args:
        model_type: of the model's config.
        run_settings: of the run's `config.yaml`; empty for a model without a run.
        output: a folder that doesn't exist; it is there whole or not at all. What `movement` needs to go on after an
            interruption stands in `OUTPUT-training` until then.
        run: what `prune.json` calls the run (see `runs.run_name`).

    Returns:
        What `prune.json` holds.

    Raises:
        DataError: where training examples are needed and can't be read.
        Interrupted: where training was told to stop; the same command goes on from there.
        SettingsError: where the sparsity would take nothing out.
    """
    family = _family_of(model_type)
    accelerator = Accelerator()
    classifier = family.load(model_folder)
    model = classifier.model.to(accelerator.device)
    data = _run_data(family, run_settings, classifier, accelerator, how)
    workplace = output.with_name(f"{output.name}-training")
    if how.method == "movement":
        assert data is not None
        pruned = family.load(model_folder).model.to(accelerator.device)
        steps = learn_what_goes(accelerator, pruned, model_folder, data, run_settings, how, workplace)
        layers = set(weighty_modules(pruned))
        report = _asked(model, how) | {"steps": steps, "epochs": how.epochs or how.default_epochs}
    else:
        pruned, report, layers = _pruned(model, data, how)
    with files.replacing_folder(output) as temporary:
        family.save(classifier._replace(model=pruned), temporary)
        pruned = family.load(temporary).model.to(accelerator.device)
        report |= {"run": run, **_metrics(model, pruned, data)}
        report |= _sizes(model, pruned, model_folder, temporary)
        report["speed"] = _speed(classifier, pruned, layers)
        files.write_json(temporary / "prune.json", report)
        card = model_folder / "README.md"
        text = card.read_text(encoding="utf-8") if card.is_file() else ""
        files.write_text(temporary / "README.md", pruned_card(text, report))
    if how.method == "movement":
        forget(workplace)
    return report


def write_pruned(
    model_folder: Path, model_type: str, run_settings: dict[str, Any], how: PruneSettings, folder: Path
) -> dict[str, Any]:
    """As `prune_run`, without measuring anything: the pruned model into `folder`; returns how it was done."""
    family = _family_of(model_type)
    accelerator = Accelerator()
    classifier = family.load(model_folder)
    model = classifier.model.to(accelerator.device)
    pruned, report, _ = _pruned(model, _run_data(family, run_settings, classifier, accelerator, how), how)
    family.save(classifier._replace(model=pruned), folder)
    return report


def _family_of(model_type: str) -> _Family:
    if model_type == CNN:
        return _Family(models.saved_image_classifier, models.save_image_classifier, image_data)
    return _Family(models.saved_text_classifier, models.save_text_classifier, text_data)


def _run_data(
    family: _Family, settings: dict[str, Any], classifier: Any, accelerator: Accelerator, how: PruneSettings
) -> RunData | None:
    """The run's data, or None after saying why it can't be read, where the pruning doesn't need it."""
    try:
        return family.data(settings, classifier, accelerator)
    except (HfscaleError, OSError) as error:
        if how.needs_data:
            other = "--method magnitude" if how.method == "movement" else "--importance magnitude"
            raise DataError(
                f"can't read the run's data, which {how.needs_data} needs ({error}); mend that, or choose by the "
                f"weights alone: {other}"
            ) from None
        console.warn(f"no metrics, because the run's data can't be read: {error}")
        return None


def _pruned(model: Any, data: RunData | None, how: PruneSettings) -> tuple[Any, dict[str, Any], set[str]]:
    """(the pruned model, how it was done, the names of the layers it was done to)."""
    asked = _asked(model, how)
    if how.method == "magnitude":
        pruned = copy.deepcopy(model)
        zero_smallest(pruned, how.sparsity)
        return pruned, asked, set(weighty_modules(model))
    units = find_units(model)
    if how.by_taylor:
        assert data is not None
        inputs = data.inputs(how.examples)
        importance = taylor_importance(model, units, inputs, data.loss_fn)
        asked |= {"importance": "taylor", "examples": sum(len(each["labels"]) for each in inputs)}
    else:
        importance = magnitude_importance(model, units)
        asked["importance"] = "magnitude"
    kept = choose(units, importance, how.sparsity)
    asked["attention_heads_stay"] = heads_stay(model.config.model_type)
    asked["layers"] = [
        _change(unit, len(score), len(stay)) for unit, score, stay in zip(units, importance, kept, strict=True)
    ]
    return without_units(model, units, kept), asked, set[str]().union(*(unit.modules for unit in units))


def _asked(model: Any, how: PruneSettings) -> dict[str, Any]:
    return {"model_type": model.config.model_type, "method": how.method, "sparsity": how.sparsity}


def _change(unit: Units, before: int, after: int) -> dict[str, Any]:
    return {"layer": unit.layer, "kind": unit.kind, "before": before, "after": after}


def _metrics(model: Any, pruned: Any, data: RunData | None) -> dict[str, Any]:
    if data is None or data.held_out is None:
        if data is not None:
            console.warn("no metrics, because the run held no rows out")
        return {"held_out": None, "metrics": None}
    scores = {"before": data.score(model), "after": data.score(pruned)}
    return {"held_out": data.held_out, "num_held_out": data.num_held_out, "metrics": finite(scores)}


def _sizes(model: Any, pruned: Any, old: Path, new: Path) -> dict[str, Any]:
    def both(measure: Callable[..., Any], *of: Any) -> dict[str, Any]:
        return dict(zip(("before", "after"), map(measure, of), strict=True))

    return {
        "num_parameters": both(lambda each: sum(weight.numel() for weight in each.parameters()), model, pruned),
        "bytes": both(lambda folder: sum(file.stat().st_size for file in folder.glob("*.safetensors")), old, new),
        "share_of_zeros": both(zero_share, model, pruned),
    }


def _speed(classifier: Any, pruned: Any, layers: set[str]) -> dict[str, Any]:
    model = classifier.model
    one, many, of = _inputs(classifier)
    before, after, speed_up = time_by_turns((model, pruned), layers, one, many)
    return {
        "device": model.device.type,
        "threads": torch.get_num_threads(),
        "batch": of,
        "before": before._asdict(),
        "after": after._asdict(),
        "speed_up": speed_up._asdict(),
    }


def _inputs(classifier: Any) -> tuple[dict[str, Any], dict[str, Any], str]:
    """(a single example, a batch, what is in the batch): made up, for the time doesn't depend on what they say."""
    model = classifier.model
    if model.config.model_type == CNN:
        height, width = model.config.height_and_width
        images = torch.rand(_IMAGES, model.config.num_channels, height, width, device=model.device)
        return {"pixel_values": images[:1]}, {"pixel_values": images}, f"{_IMAGES} images of {height}x{width}"
    length = min(_TOKENS, classifier.max_length(None))
    ids = torch.randint(len(classifier.tokenizer), (_TEXTS, length), device=model.device)
    many = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return {name: value[:1] for name, value in many.items()}, many, f"{_TEXTS} texts of {length} tokens"
