"""A card's metadata: what the Hub's search, widgets and result tables read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData, try_to_load_from_cache

from hfscale.data.sources import is_local, last_part
from hfscale.errors import HfscaleError
from hfscale.evaluation.hub_names import HUB_NAMES
from hfscale.models import origin_of
from hfscale.models.locate import locate_model
from hfscale.schemas import ModelSettings

_KINDS = {"csv": "csv", "tsv": "csv", "json": "json", "jsonl": "json", "parquet": "parquet", "txt": "text"}
_ENGLISH = ("builtin:tickets", "builtin:docstrings")


def model_metadata(
    config: Any, result: dict[str, Any], pipeline_tag: str, title: str, tags: tuple[str, ...] = ()
) -> ModelCardData:
    """Metadata of what a run made; of data and models on this machine nothing but a last part of a name.

    License and language are those of the `hub` block; else the license is that of the base model, where its card lies
    on this machine, and the language that of a built-in data set.
    """
    hub, adapted = getattr(config, "hub", None), bool(getattr(config, "lora", None))
    base = base_on_hub(config.model)
    relation: dict[str, Any] = {"base_model_relation": "adapter" if adapted else "finetune"} if base else {}
    train, results = config.data.train, _eval_results(config, result, pipeline_tag)
    language = getattr(hub, "language", None) or ("en" if _plain(train) in _ENGLISH else None)
    return ModelCardData(
        language=language,
        license=getattr(hub, "license", None) or license_of_base(config.model),
        library_name="peft" if adapted else "transformers",
        pipeline_tag=pipeline_tag,
        tags=["hfscale", *tags],
        base_model=base,
        **relation,
        datasets=[_plain(train)] if _on_hub(train) else None,
        model_name=(getattr(hub, "repo_id", None) or title).rpartition("/")[2] if results else None,
        eval_results=results or None,
    )


def base_on_hub(model: Any) -> str | None:
    """The Hub id of the model whose weights a run began with, if it began with some that are there."""
    name = getattr(model, "name", None)
    if name is None or getattr(model, "random_weights", False) or is_local(name):
        return None
    origin = origin_of(name)
    return None if origin.startswith("builtin:") else origin


def license_of_base(model: Any) -> str | None:
    """What the card of the model says that a run began with; None where no card of it lies on this machine."""
    name, revision = getattr(model, "name", None), getattr(model, "revision", None)
    if name is None or getattr(model, "random_weights", False):
        return None
    try:
        place, _ = locate_model(ModelSettings(name=name, revision=revision))
        card: Any = Path(place) / "README.md"
        if not is_local(name) and not name.startswith("builtin:"):
            card = try_to_load_from_cache(name, "README.md", revision=revision)
        if not isinstance(card, (str, Path)) or not Path(card).is_file():
            return None
        found = ModelCard(Path(card).read_text(encoding="utf-8"), ignore_metadata_errors=True).data.get("license")
    except (HfscaleError, OSError, ValueError):
        return None
    return found if isinstance(found, str) else None


def _eval_results(config: Any, result: dict[str, Any], pipeline_tag: str) -> list[EvalResult]:
    """The held-out metrics that are numbers."""
    if not result["held_out"]:
        return []
    source, split = held_out_source(config.data, result["held_out"])
    on_hub = _on_hub(source)
    return [
        EvalResult(
            task_type=pipeline_tag,
            dataset_type=_plain(source) if on_hub else _kind(source),
            dataset_name=_plain(last_part(source)) + (" (held-out part)" if split is None else ""),
            dataset_config=getattr(config.data, "subset", None) if on_hub else None,
            dataset_split=split or (source.partition("#")[2] or "train" if on_hub else None),
            metric_type=HUB_NAMES[name][0],
            metric_name=HUB_NAMES[name][1],
            metric_value=round(value, 6),
        )
        for name, value in result["metrics"].items()
        if name in HUB_NAMES and value is not None and math.isfinite(value)
    ]


def held_out_source(data: Any, held_out: str) -> tuple[str, str | None]:
    """(the data set that held-out examples are from, its split; None for a part of what was trained on)."""
    given = getattr(data, held_out, None)
    if given:
        return given, given.partition("#")[2] or (held_out if not _on_hub(given) else "train")
    if held_out == "test":  # a built-in data set, or a folder of MNIST, brings its own
        return data.train, "test"
    return data.train, None


def _on_hub(name: str) -> bool:
    return not is_local(name) and not name.startswith("builtin:")


def _plain(name: str) -> str:
    """Without the split."""
    return name if is_local(name) else name.partition("#")[0]


def _kind(source: str) -> str:
    """What `datasets` would read it as; a built-in's own name."""
    if source.startswith("builtin:"):
        return _plain(source).removeprefix("builtin:")
    endings = [ending.removeprefix(".") for ending in Path(source).suffixes]
    return next((_KINDS[each] for each in reversed(endings) if each in _KINDS), "local")
