"""What can be taken out of a model such that its config still describes it, and `from_pretrained` loads it.

A unit is a neuron of a feed-forward block, an attention head, or a filter of a convolution. Some tensors write its
value (rows that go with it) and one reads it (columns that go with it). All layers of an encoder keep equally many,
because a config has one number for them; a CNN's has one for each convolution.

BERT and its kin give a head the size hidden / heads, so that a model with fewer heads of the same size can't be
written down: of these the heads stay. Where the config has a `head_dim` of its own (EuroBERT), they go too, in groups
that share keys and values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from hfscale.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

CNN = "hfscale_cnn"
_OWN_HEAD_SIZE = "eurobert"


class Part(NamedTuple):
    """Where the units stand in a tensor: along `dim`, `blocks` times one after the other, `span` entries each."""

    tensor: str
    dim: int
    span: int = 1
    blocks: int = 1

    def of(self, tensor: Tensor) -> Tensor:
        """A view with `dim` split into (blocks, units, span)."""
        return tensor.unflatten(self.dim, (self.blocks, -1, self.span))

    def keep(self, tensor: Tensor, units: Tensor) -> Tensor:
        """The tensor with these units alone."""
        return self.of(tensor).index_select(self.dim + 1, units).flatten(self.dim, self.dim + 2)


class Units(NamedTuple):
    """The units of one layer."""

    kind: str
    layer: int
    setting: str
    """Which of the config's settings counts them."""
    writers: tuple[Part, ...]
    reader: Part

    def count(self, state: dict[str, Tensor]) -> int:
        return self.reader.of(state[self.reader.tensor]).shape[self.reader.dim + 1]

    @property
    def modules(self) -> set[str]:
        """Names of the modules that become smaller."""
        return {part.tensor.rpartition(".")[0] for part in (*self.writers, self.reader)}


class _FeedForward(NamedTuple):
    """Where a kind of encoder has its feed-forward blocks."""

    layers: str
    into: tuple[str, ...]
    out: str
    setting: str = "intermediate_size"
    blocks: int = 1


_LIKE_BERT = _FeedForward("encoder.layer", ("intermediate.dense",), "output.dense")
_ENCODERS = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra", "mpnet"), _LIKE_BERT),
    "distilbert": _FeedForward("transformer.layer", ("ffn.lin1",), "ffn.lin2", "hidden_dim"),
    "modernbert": _FeedForward("layers", ("mlp.Wi",), "mlp.Wo", blocks=2),
    "eurobert": _FeedForward("layers", ("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj"),
}


def refuse_unknown(model_type: str, folder: Path) -> None:
    """Raises `ModelError` for an architecture whose parts are not known here."""
    if model_type not in (CNN, *_ENCODERS):
        raise ModelError(
            f"{folder} holds a model of type {model_type}, which can't be pruned; those that can: "
            f"{', '.join(_ENCODERS)}, and the network of train_cnn.py"
        )


def heads_stay(model_type: str) -> bool:
    """Whether the model has attention heads that its config can't do without."""
    return model_type not in (CNN, _OWN_HEAD_SIZE)


def find_units(model: Any) -> list[Units]:
    """All units that the config can do without, layer by layer."""
    names = {name for name, _ in model.named_parameters()}
    if model.config.model_type == CNN:
        return _filters(model)
    shape = _ENCODERS[model.config.model_type]
    units = []
    for number, layer in enumerate(_layer_names(model)):
        into = tuple(_written(names, f"{layer}.{name}", blocks=shape.blocks) for name in shape.into)
        writers = tuple(part for parts in into for part in parts)
        reader = Part(f"{layer}.{shape.out}.weight", 1)
        units.append(Units("feed-forward neurons", number, shape.setting, writers, reader))
        if model.config.model_type == _OWN_HEAD_SIZE:
            units.append(_heads(model.config, names, number, f"{layer}.self_attn"))
    return units


def weighty_modules(model: Any) -> dict[str, nn.Module]:
    """The linear layers and convolutions between the embeddings and the head, by name."""
    from torch import nn

    cnn = model.config.model_type == CNN
    inside = ("convolutions.", "hidden") if cnn else tuple(f"{layer}." for layer in _layer_names(model))
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d)) and name.startswith(inside)
    }


def narrow(config: Any, units: list[Units], counts: list[int]) -> None:
    """Write into the config that only so many of the units are left."""
    for unit, count in zip(units, counts, strict=True):
        if unit.setting == "conv_channels":
            config.conv_channels = [
                *config.conv_channels[: unit.layer],
                count,
                *config.conv_channels[unit.layer + 1 :],
            ]
            continue
        if unit.setting == "num_key_value_heads":
            config.num_attention_heads = config.num_attention_heads // config.num_key_value_heads * count
        setattr(config, unit.setting, count)


def _layer_names(model: Any) -> list[str]:
    path = f"{model.base_model_prefix}.{_ENCODERS[model.config.model_type].layers}"
    return [f"{path}.{number}" for number in range(len(model.get_submodule(path)))]


def _written(names: set[str], module: str, span: int = 1, blocks: int = 1) -> tuple[Part, ...]:
    """Weight and, where there is one, bias."""
    found = (f"{module}.weight", f"{module}.bias")
    return tuple(Part(name, 0, span, blocks) for name in found if name in names)


def _heads(config: Any, names: set[str], number: int, attention: str) -> Units:
    sharing = config.num_attention_heads // config.num_key_value_heads
    writers = (
        *_written(names, f"{attention}.q_proj", sharing * config.head_dim),
        *_written(names, f"{attention}.k_proj", config.head_dim),
        *_written(names, f"{attention}.v_proj", config.head_dim),
    )
    kind = "attention heads" if sharing == 1 else f"groups of {sharing} attention heads"
    reader = Part(f"{attention}.o_proj.weight", 1, sharing * config.head_dim)
    return Units(kind, number, "num_key_value_heads", writers, reader)


def _filters(model: Any) -> list[Units]:
    """A filter is read by the next convolution; the last one by the dense layer, at each place of the image."""
    names = {name for name, _ in model.named_parameters()}
    last = len(model.convolutions) - 1
    places = model.hidden.in_features // model.config.conv_channels[-1]
    units = []
    for number in range(last + 1):
        reader = Part("hidden.weight", 1, places) if number == last else Part(f"convolutions.{number + 1}.weight", 1)
        writers = _written(names, f"convolutions.{number}")
        units.append(Units("filters", number, "conv_channels", writers, reader))
    return units
