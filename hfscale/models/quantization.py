"""Linear layers in 8 or 4 bits (bitsandbytes), for encoders and decoders.

What has to stay in float32 does: heads, and a pooler, which is part of one. bitsandbytes leaves a language model's
output layer alone by itself, but would round a classifier's head, and takes a list of exceptions instead of its own.
"""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Collection, Generator
from pathlib import Path
from typing import Any

from hfscale.errors import MissingExtraError, ModelError
from hfscale.models.heads import heads_of
from hfscale.schemas import QuantSettings

_NOTE = "hfscale_quantization"  # in config.json of an adapter: how its base was held


def bits_arguments(
    config: Any, model_class: Any, quant: QuantSettings | None, trust_remote_code: bool
) -> dict[str, Any] | None:
    """Arguments of transformers' `BitsAndBytesConfig` that hold on any machine, for a model of this auto class; None
    without `quant`."""
    if quant is None:
        return None
    kept = {"llm_int8_skip_modules": kept_whole(config, model_class, trust_remote_code)}
    if quant.bits == 8:
        return {"load_in_8bit": True, **kept}
    kind = {"bnb_4bit_quant_type": quant.type or "nf4", "bnb_4bit_use_double_quant": quant.double is not False}
    return {"load_in_4bit": True, **kind, **kept}


def quantized_options(arguments: dict[str, Any] | None) -> dict[str, Any]:
    """Options of `from_pretrained` that quantize the model while it is loaded; none without arguments.

    Raises:
        MissingExtraError: where bitsandbytes is not installed.
    """
    if arguments is None:
        return {}
    import torch
    from transformers import BitsAndBytesConfig

    require_bitsandbytes()
    # bfloat16 on a CPU without instructions for it takes a hundred times as long.
    compute = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    more: dict[str, Any] = {"bnb_4bit_compute_dtype": compute} if "load_in_4bit" in arguments else {}
    return {"quantization_config": BitsAndBytesConfig(**arguments, **more)}


def kept_whole(config: Any, model_class: Any, trust_remote_code: bool) -> list[str]:
    """Full names of the modules that are not quantized: all that stands beside the encoder, and its pooler."""
    import torch

    with torch.device("meta"):
        shape: Any = model_class.from_config(config, trust_remote_code=trust_remote_code)
    return heads_of(shape) + [name for name, _ in shape.named_modules() if name.rpartition(".")[2] == "pooler"]


def is_quantized(config: Any) -> bool:
    """Whether transformers would load the model with weights in few bits, of whatever library."""
    return getattr(config, "quantization_config", None) is not None


def refuse_quantized_base(config: Any, name: str) -> None:
    """Weights that lie in few bits can't be trained, nor can they be told from those that `--quant` makes.

    Raises:
        ModelError: naming the way out.
    """
    if is_quantized(config):
        raise ModelError(
            f"{name} holds its weights in few bits already; give the full-precision model that it was made from, with "
            "--quant.bits 4 and --lora.r 8 to train beside few bits"
        )


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


@contextlib.contextmanager
def rows_apart(model: Any) -> Generator[None]:
    """Each row of a batch goes through the model as if it were alone, but for rounding in float32: LLM.int8 chooses by
    all rows together which columns it keeps whole, and here chooses none; 4-bit weights are multiplied in bfloat16 on
    a GPU, which would round off what is to be seen."""
    import torch

    states = [module.state for module in model.modules() if hasattr(getattr(module, "state", None), "threshold")]
    layers = [module for module in model.modules() if hasattr(module, "compute_dtype")]
    thresholds = [state.threshold for state in states]
    types = [layer.compute_dtype for layer in layers]
    for state in states:
        state.threshold = 0.0
    for layer in layers:
        layer.compute_dtype = torch.float32
    try:
        yield
    finally:
        for state, threshold in zip(states, thresholds, strict=True):
            state.threshold = threshold
        for layer, dtype in zip(layers, types, strict=True):
            layer.compute_dtype = dtype


def note_quantization(config: Any, arguments: dict[str, Any] | None) -> None:
    """Write into a model's config how the weights under its adapter were held."""
    if arguments is not None:
        setattr(config, _NOTE, arguments)


def noted_quantization(config: Any) -> dict[str, Any] | None:
    """The inverse of `note_quantization`."""
    return getattr(config, _NOTE, None)


def save_config(model: Any, folder: Path) -> None:
    """Write `config.json` of an adapter's base: without transformers' own entry, by which weights count as
    quantized."""
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
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


def moved_scales(model: Any) -> int:
    """Bytes of the scales that LLM.int8's layers take from their weights at the first forward pass."""
    states = [getattr(module, "state", None) for module in model.modules()]
    scales = [getattr(state, "SCB", None) for state in states]
    return sum(scale.numel() * scale.element_size() for scale in scales if scale is not None)


def num_weights(parameter: Any) -> int:
    """Of a weight, of which 4-bit ones hold two in an element."""
    state = getattr(parameter, "quant_state", None)
    return state.shape.numel() if state is not None else parameter.numel()


def _scales(state: Any) -> list[Any]:
    if state is None:
        return []
    tensors = [state.absmax, state.code, getattr(state, "offset", None)]
    return tensors + (_scales(state.state2) if state.nested else [])


def require_bitsandbytes() -> None:
    """Import it, with its switches set as everything here needs them.

    Raises:
        MissingExtraError: where it is not installed.
    """
    quieten_bitsandbytes()
    try:
        from bitsandbytes.nn import modules
    except ImportError:
        raise MissingExtraError("quantization needs bitsandbytes: pip install 'hfscale[quant]'") from None
    # On a CPU with AVX512-BF16 an evaluation packs 4-bit weights anew, computes in bfloat16, fails on small layers,
    # and leaves the weights packed: training goes on without a gradient through them.
    modules.has_avx512bf16 = lambda: False  # pyright: ignore[reportPrivateImportUsage]


def quieten_bitsandbytes() -> None:
    """Before it is imported, which PEFT does by itself: it would say at every layer and call that it casts to half
    precision, and on some CPUs that a package is missing which nothing here uses."""
    for name in ("autograd._functions", "backends.cpu.ops"):
        logging.getLogger(f"bitsandbytes.{name}").setLevel(logging.ERROR)
