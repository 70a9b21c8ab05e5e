"""An adapter merged into the model it was trained on.

Always in float32. A weight of 8 or 4 bits could only take an adapter by being rounded again, which loses more of it
than training put in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hfscale.compression.kinds import SavedModel
from hfscale.errors import ModelError, SettingsError
from hfscale.models.adapted import adapted_model, adapter_settings, refuse_other_base, refuse_other_shape
from hfscale.models.adapters import base_of
from hfscale.models.locate import locate_model
from hfscale.models.quantization import is_quantized, noted_quantization
from hfscale.network import plain_words
from hfscale.runs import base_of_run
from hfscale.schemas import ModelSettings


def merge(adapted: Any) -> Any:
    """The plain model that computes what `adapted`, a PEFT model in float32, does; its head is the trained one.

    `adapted` is used up.

    Raises:
        ModelError: for weights that are not finite, and for adapters that can't be merged, such as prompts.
    """
    try:
        model = adapted.merge_and_unload(safe_merge=True)
    except (AttributeError, NotImplementedError, ValueError) as error:
        raise ModelError(f"this adapter can't be merged: {' '.join(str(error).split())[:200]}") from None
    for note in ("hfscale_quantization", "hfscale_local_base"):  # they told who loads the adapter what to load it on
        if hasattr(model.config, note):
            delattr(model.config, note)
    model.config.architectures = [type(model).__name__]
    return model


def find_base(saved: SavedModel, given: str | None) -> ModelSettings:
    """The full-precision model that an adapter was trained on: the one `given`, the run's, or the one that it names.

    Raises:
        SettingsError: where there is no adapter.
        ModelError: where the base is not there, another one, or quantized.
    """
    folder = saved.folder
    if not saved.is_adapter:
        raise SettingsError(f"there is no adapter in {folder}, so that --merge has nothing to do; leave it out")
    base = _named(given, folder) if given else base_of_run(folder) or base_of(folder)
    refuse_other_base(folder, saved.config, base)
    config = _config_of(base, folder)
    if is_quantized(config):
        raise ModelError(
            f"{base.name} holds its weights in few bits already, and merging would round the adapter with them; give "
            "the full-precision model that it was made from with --base, and quantize afterwards with --bits"
        )
    refuse_other_shape(folder, saved.config, config, saved.model_class, base.name)
    return base


def _named(name: str, folder: Path) -> ModelSettings:
    """A base by name; of one on the Hub the revision that the adapter was trained on."""
    on_hub = not name.startswith("builtin:") and not Path(name).expanduser().is_dir()
    return ModelSettings(name=name, revision=adapter_settings(folder).get("revision") if on_hub else None)


def load_adapted(saved: SavedModel, base: ModelSettings, as_trained: bool = False) -> Any:
    """The base in float32 under the adapter; with `as_trained` in the bits that training held it in."""
    in_bits = noted_quantization(saved.config) if as_trained else None
    with plain_words(f"model {base.name}", "give another with --base"):
        return adapted_model(saved.folder, saved.config, saved.model_class, base, in_bits)


def _config_of(base: ModelSettings, folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        source, options = locate_model(base)
    except ModelError as error:
        raise ModelError(
            f"the model that {folder} was trained on is not there: {error}; give it with --base"
        ) from None
    with plain_words(f"model {base.name}", "give it with --base"):
        return AutoConfig.from_pretrained(source, **options)
