"""Models without weights: of any depth, as fake tensors or on the meta device."""

from __future__ import annotations

import copy
from typing import Any

from hfscale.errors import ModelError
from hfscale.launch.plan.workload import Workload
from hfscale.network import plain_words

_PER_LAYER = ("layer_types", "mlp_layer_types", "no_rope_layers")
"""Settings of a config that list something for each layer."""


def num_layers(config: Any) -> int:
    """Layers of the whole model.

    Raises:
        ModelError: for a config that doesn't say.
    """
    number = getattr(config, "num_hidden_layers", None)
    if not isinstance(number, int) or number < 1:
        raise ModelError(
            f"a {config.model_type} config has no num_hidden_layers; plan knows stacks of equal layers only"
        )
    return number


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
    """A copy of the config with only the first so many layers."""
    shallow = copy.deepcopy(config)
    lists = {name: list(getattr(config, name))[:layers] for name in _PER_LAYER if _lists_layers(config, name)}
    shallow.num_hidden_layers = layers
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
    else:
        auto = auto_class(workload.objective)
        set_outputs(config, workload.objective, [str(number) for number in range(workload.num_labels)])
    with plain_words(f"model {workload.name}", "choose another objective or model", "--trust_remote_code"):
        model = auto.from_config(config, dtype=dtype, trust_remote_code=workload.trust_remote_code)
    if workload.is_language_model:
        attach_language_loss(model)
    else:
        read_first_token_only(model)
    return model.train()


def num_parameters(workload: Workload) -> int:
    """Weights of the whole model, tied ones once, counted on the meta device."""
    import torch

    with torch.device("meta"):
        model = build_model(workload, copy.deepcopy(workload.config), torch.float32)
    return sum(parameter.numel() for parameter in model.parameters())
