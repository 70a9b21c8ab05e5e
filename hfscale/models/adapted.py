"""A model with the adapter that was trained on it, put together again from their two folders."""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

from hfscale.errors import ModelError
from hfscale.models.adapters import require_peft
from hfscale.models.builtin import origin_of
from hfscale.models.locate import locate_model
from hfscale.models.pretrained import pretrained_model
from hfscale.models.quantization import quantized_options
from hfscale.schemas import ModelSettings


def adapted_model(
    folder: Path, config: Any, model_class: Any, base: ModelSettings, in_bits: dict[str, Any] | None = None
) -> Any:
    """The model `base` in float32, or quantized by the arguments `in_bits`, under the adapter and head in `folder`, in
    evaluation mode; it writes as `generation_config.json` there says.

    Args:
        config: of the adapter's folder, with the names of its labels.
        model_class: an auto class of transformers (see `hfscale.models.heads`).

    Raises:
        MissingExtraError: where PEFT is not installed.
        ModelError: where the base is not there, or the adapter was trained on another one.
    """
    _refuse_elsewhere(folder, config, base)
    refuse_other_base(folder, config, base)
    try:
        source, options = locate_model(base)
    except ModelError as error:
        raise ModelError(
            f"{folder} holds an adapter, and the model it was trained on is not there: {error}; give it with --base"
        ) from None
    from transformers import AutoConfig, GenerationConfig

    if not base.trust_remote_code:  # else its code would be needed to see the shapes
        refuse_other_shape(folder, config, AutoConfig.from_pretrained(source, **options), model_class, base.name)
    options |= quantized_options(in_bits)
    model, lacking = pretrained_model(model_class, source, config, options)
    _refuse_lacking(folder, base.name, lacking)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return _with_adapter(model, folder)


def _refuse_elsewhere(folder: Path, config: Any, base: ModelSettings) -> None:
    """A path that leads nowhere from here must not be taken for a model on the Hub."""
    if hasattr(config, "hfscale_local_base") and not Path(base.name).expanduser().is_dir():
        raise ModelError(
            f"{folder} holds an adapter for a model in a local folder {config.hfscale_local_base}, and {base.name} is "
            "no folder here; give it with --base"
        )


def refuse_other_base(folder: Path, config: Any, base: ModelSettings) -> None:
    """An adapter's folder says what its base is called (see `hfscale.models.adapters.note_base`).

    Raises:
        ModelError: where it is called something else than `base`.
    """
    recorded = str(adapter_settings(folder).get("base_model_name_or_path") or "")
    name = origin_of(base.name)
    path = Path(base.name).expanduser()
    if base.name.startswith("builtin:") or not path.is_dir():
        same = name == recorded and not hasattr(config, "hfscale_local_base")
    else:  # a copy of a Hub's model, or the cache's, is called after it
        parts = {*path.absolute().parts, *path.resolve().parts}
        same = bool(parts & {recorded.rpartition("/")[2], f"models--{recorded.replace('/', '--')}"})
    if recorded and not same:
        raise ModelError(
            f"the adapter in {folder} was trained on {recorded}, not on {base.name}; give that with --base, or, where "
            "it is the same model, call its folder so"
        )


def refuse_other_shape(folder: Path, config: Any, base_config: Any, model_class: Any, base: str) -> None:
    """A base with more layers, say, would take the adapter without a word.

    Raises:
        ModelError: where the bodies of the two configs' models differ in a name or shape of a weight.
    """
    wanted, there = (_shapes(each, model_class) for each in (config, base_config))
    for name in sorted(wanted.keys() | there.keys()):
        if wanted.get(name) != there.get(name):
            raise ModelError(
                f"the adapter in {folder} was trained on another model than {base}: {name} is "
                f"{_shown(wanted.get(name))} in the one, and {_shown(there.get(name))} in the other"
            )


def _shapes(config: Any, model_class: Any) -> dict[str, tuple[int, ...]]:
    import torch

    with torch.device("meta"):
        body = model_class.from_config(config).base_model
    return {name: tuple(parameter.shape) for name, parameter in body.named_parameters()}


def _shown(shape: tuple[int, ...] | None) -> str:
    return " x ".join(map(str, shape)) if shape else "missing"


def _refuse_lacking(folder: Path, base: str, lacking: Collection[str]) -> None:
    """Of the base model the adapter has what is new; all else must come from the base."""
    whole = tuple(f"{name}." for name in adapter_settings(folder).get("modules_to_save") or [])
    missing = sorted(name for name in lacking if not name.startswith(whole))
    if missing:
        raise ModelError(
            f"the adapter in {folder} belongs to another model than {base}, which lacks {', '.join(missing[:3])}"
        )


def _with_adapter(model: Any, folder: Path) -> Any:
    """PEFT only warns of weights that it did not find or could not place: here every one must have found its place."""
    peft = require_peft()
    from safetensors import safe_open

    if not (folder / "adapter_model.safetensors").is_file():  # PEFT would ask the Hub for it
        raise ModelError(f"{folder} holds no adapter_model.safetensors")
    problem = f"the adapter in {folder} does not fit the model it was trained on"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adapted = peft.PeftModel.from_pretrained(model, str(folder)).eval()
            placed = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{problem}: {' '.join(str(error).split())[:200]}") from None
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        stray = sorted(set(file.keys()) ^ set(placed))
    if stray:
        raise ModelError(f"{problem}: {', '.join(stray[:3])} stand in only one of the two")
    return adapted


def adapter_settings(folder: Path) -> dict[str, Any]:
    """What `adapter_config.json` in a folder says: `base_model_name_or_path`, `revision`, `modules_to_save`, ..."""
    try:
        found = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise ModelError(f"{folder}/adapter_config.json can't be read as an adapter's settings")
    return found
