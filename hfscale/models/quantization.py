"""Linear layers in 8 or 4 bits (bitsandbytes), for encoders and decoders.

What has to stay in float32 does: heads, and a pooler, which is part of one. bitsandbytes leaves a language model's
output layer alone by itself, but would round a classifier's head, and takes a list of exceptions instead of its own.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

from hfscale.errors import MissingExtraError, ModelError
from hfscale.schemas import QuantSettings, Task

_NOTE = "hfscale_quantization"  # in config.json of an adapter: how its base was held


def quantized_options(config: Any, task: Task, quant: QuantSettings | None, trust_remote_code: bool) -> dict[str, Any]:
    """Options of `from_pretrained` that quantize the model while it is loaded; none without `quant`.

    Raises:
        MissingExtraError: where bitsandbytes is not installed.
    """
    if quant is None:
        return {}
    import torch
    from transformers import BitsAndBytesConfig

    _require_bitsandbytes()
    kept = kept_whole(config, task, trust_remote_code)
    if quant.bits == 8:
        made = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    else:
        made = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=quant.type or "nf4",
            bnb_4bit_use_double_quant=quant.double is not False,
            # bfloat16 on a CPU without instructions for it takes a hundred times as long.
            bnb_4bit_compute_dtype=torch.bfloat16 if torch.cuda.is_available() else torch.float32,
            llm_int8_skip_modules=kept,
        )
    return {"quantization_config": made}


def kept_whole(config: Any, task: Task, trust_remote_code: bool) -> list[str]:
    """Full names of the modules that are not quantized: all that stands beside the encoder, and its pooler."""
    import torch

    from hfscale.models.heads import auto_class

    with torch.device("meta"):
        shape: Any = auto_class(task).from_config(config, trust_remote_code=trust_remote_code)
    prefix = shape.base_model_prefix
    heads = [name for name, _ in shape.named_children() if name != prefix]
    return heads + [name for name, _ in shape.named_modules() if name.rpartition(".")[2] == "pooler"]


def refuse_quantized_new(model: Any, new: Collection[str], name: str) -> None:
    """Weights that were drawn at random would be trained whole, which quantized ones can't be.

    Raises:
        ModelError: naming them.
    """
    parameters = dict(model.named_parameters())
    lost = sorted(key for key in new if key in parameters and not parameters[key].is_floating_point())
    if lost:
        raise ModelError(
            f"{name}: {', '.join(lost[:3])} are not in its files, and can't be drawn in few bits; drop --quant"
        )


def note_quantization(config: Any, quant: QuantSettings | None) -> None:
    """Write into a model's config how the weights under its adapter were held."""
    if quant is not None:
        setattr(config, _NOTE, dataclasses.asdict(quant))


def noted_quantization(config: Any) -> QuantSettings | None:
    """The inverse of `note_quantization`."""
    noted = getattr(config, _NOTE, None)
    return QuantSettings(**noted) if noted else None


def save_config(config: Any, folder: Path) -> None:
    """Write `config.json` of an adapter: without transformers' own entry, by which weights count as quantized."""
    config = copy.deepcopy(config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.save_pretrained(folder)


def num_bytes(parameter: Any) -> int:
    """Of a weight with what is needed to read it: the scales of a quantized one, which `get_memory_footprint` leaves
    out."""
    held = parameter.numel() * parameter.element_size()
    for state in (getattr(parameter, "SCB", None), *_scales(getattr(parameter, "quant_state", None))):
        held += state.numel() * state.element_size() if state is not None else 0
    return held


def num_weights(parameter: Any) -> int:
    """Of a weight, of which 4-bit ones hold two in an element."""
    state = getattr(parameter, "quant_state", None)
    return state.shape.numel() if state is not None else parameter.numel()


def _scales(state: Any) -> list[Any]:
    if state is None:
        return []
    tensors = [state.absmax, state.code, getattr(state, "offset", None)]
    return tensors + (_scales(state.state2) if state.nested else [])


def _require_bitsandbytes() -> None:
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise MissingExtraError("quantization needs bitsandbytes: pip install 'hfscale[quant]'") from None
    # It would say at every layer and call that it casts to half precision.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
