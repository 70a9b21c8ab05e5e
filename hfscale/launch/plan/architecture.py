"""Models without weights: of any depth, as fake tensors or on the meta device."""

from __future__ import annotations

import copy
import math
from typing import Any

from hfscale.errors import ModelError
from hfscale.launch.plan.workload import Workload
from hfscale.network import plain_words

_PER_LAYER = ("layer_types", "mlp_layer_types", "no_rope_layers")
"""Settings of a config that list something for each layer."""


_STACKS = (
    ("encoder_layers", "decoder_layers"),
    ("num_layers", "num_decoder_layers"),
    ("num_encoder_layers", "num_decoder_layers"),
)
"""What configs of encoder-decoders call their two depths."""


def stacks(config: Any) -> dict[str, int]:
    """The config's settings of depth: one, or two of an encoder-decoder.

    Raises:
        ModelError: for a config that doesn't say, or whose layers differ in a way that is not known.
    """
    pairs = _STACKS if getattr(config, "is_encoder_decoder", False) else (("num_hidden_layers",),)
    for names in pairs:
        found: dict[str, Any] = {name: getattr(config, name, None) for name in names}
        depths: dict[str, int] = {name: depth for name, depth in found.items() if isinstance(depth, int) and depth > 0}
        if len(depths) == len(names):
            if len(names) == 2 and getattr(config, "num_experts", None):
                raise ModelError(f"plan knows no experts in encoder-decoders, which a {config.model_type} has")
            return depths
    wanted = " or ".join(" and ".join(names) for names in pairs)
    raise ModelError(f"a {config.model_type} config has no {wanted}; plan knows stacks of equal layers only")


def num_layers(config: Any) -> int:
    """Layers of the whole model; of an encoder-decoder the parts, each of as many layers of either stack, into which
    both can be cut.

    Raises:
        ModelError: as `stacks`.
    """
    return math.gcd(*stacks(config).values())


def measured_depths(workload: Workload) -> tuple[int, ...]:
    """The depths at which a step is measured: two, a whole number of periods apart, or all layers of a shallow model.

    Layers of some models differ in turn (two of three look at a window only), so that only whole periods add the same.
    A classifier's last layer may be narrower than the others, of which the shallower of the two needs several, then.
    """
    layers, period = num_layers(workload.config), _period(workload.config)
    first = (2 if workload.is_language_model else 3) if period == 1 else period + layers % period
    step = period if workload.is_language_model else 2 * period
    return (layers,) if layers <= first + step else (first, first + step)


def _period(config: Any) -> int:
    """The smallest number of layers after which their kinds repeat."""
    layers = num_layers(config)
    kinds = list(zip(*(getattr(config, name) for name in _PER_LAYER if _lists_layers(config, name)), strict=True))
    if not kinds:
        return 1
    return next(p for p in range(1, layers + 1) if all(kinds[i] == kinds[i % p] for i in range(layers)))


def _lists_layers(config: Any, name: str) -> bool:
    value = getattr(config, name, None)
    return isinstance(value, (list, tuple)) and len(value) == num_layers(config)


def with_depth(config: Any, layers: int) -> Any:
    """A copy of the config with only the first so many layers, as `num_layers` counts them."""
    shallow = copy.deepcopy(config)
    lists = {name: list(getattr(config, name))[:layers] for name in _PER_LAYER if _lists_layers(config, name)}
    for name, depth in stacks(config).items():
        setattr(shallow, name, depth // num_layers(config) * layers)
    for name, kinds in lists.items():
        setattr(shallow, name, kinds)
    return shallow


def build_model(workload: Workload, config: Any, dtype: Any) -> Any:
    """The model as its recipe makes it, loss included; under a fake mode or on the meta device it costs no memory.

    Raises:
        ModelError: for a config of no such model.
    """
    import transformers

    from hfscale.models.first_token import read_first_token_only
    from hfscale.models.heads import auto_class, set_outputs
    from hfscale.models.targets import attach_language_loss

    if workload.objective == "causal":
        auto: Any = transformers.AutoModelForCausalLM
    elif workload.objective == "masked":
        auto = transformers.AutoModelForMaskedLM
    elif workload.objective == "seq2seq":
        auto = transformers.AutoModelForSeq2SeqLM
        config.use_cache = False  # as the loss asks for
        if getattr(config, "decoder_start_token_id", None) is None:  # whichever it is, it takes no memory
            config.decoder_start_token_id = config.pad_token_id or 0
    else:
        auto = auto_class(workload.objective)
        set_outputs(config, workload.objective, [str(number) for number in range(workload.num_labels)])
    with plain_words(f"model {workload.name}", "choose another objective or model", "--trust_remote_code"):
        model = auto.from_config(config, dtype=dtype, trust_remote_code=workload.trust_remote_code)
    if workload.objective in ("causal", "masked"):
        attach_language_loss(model)
    elif workload.objective != "seq2seq":
        read_first_token_only(model)
    return model.train()


def num_parameters(workload: Workload) -> int:
    """Weights of the whole model, tied ones once, counted on the meta device."""
    import torch

    with torch.device("meta"):
        model = build_model(workload, copy.deepcopy(workload.config), torch.float32)
    return sum(parameter.numel() for parameter in model.parameters())
