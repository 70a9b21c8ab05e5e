"""A classifier that reads its last layer at the first token computes it there alone.

BERT's kin classify from the vector of `[CLS]`. In the last layer only that position needs a query, an output and a
feed-forward pass; keys and values still come from all positions. The logits are the same, for about 10/12 of one
layer less work (2 of the 12 hidden x hidden matrices of a layer are its keys and values).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

# Encoders whose sequence classifier takes position 0 and whose layers are built like BERT's.
_LIKE_BERT = ("bert", "roberta", "xlm-roberta", "electra")


def read_first_token_only(model: PreTrainedModel) -> bool:
    """Narrow the last layer of a sequence classifier to the first token; returns whether the model is of that kind.

    Weights and their names stay as they are. The model's `last_hidden_state` then has length 1.
    """
    config = model.config
    if config.model_type not in _LIKE_BERT or config._attn_implementation != "sdpa":
        return False
    if not type(model).__name__.endswith("ForSequenceClassification") or getattr(config, "is_decoder", False):
        return False
    encoder: Any = model.base_model.encoder
    last = encoder.layer[-1]
    last.forward = _first_token_forward(last)
    return True


def _first_token_forward(layer: Any) -> Any:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    attention = layer.attention.self
    attend: Any = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def heads(projection: nn.Module, states: Tensor) -> Tensor:
        """(batch, positions, hidden) -> (batch, heads, positions, head size)."""
        return projection(states).unflatten(-1, (-1, attention.attention_head_size)).transpose(1, 2)

    def forward(hidden_states: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
        first = hidden_states[:, :1]
        context, _weights = attend(
            attention,
            heads(attention.query, first),
            heads(attention.key, hidden_states),
            heads(attention.value, hidden_states),
            None if attention_mask is None else attention_mask[:, :, :1],
            dropout=attention.dropout.p if attention.training else 0.0,
            scaling=attention.scaling,
        )
        return layer.feed_forward_chunk(layer.attention.output(context.flatten(2), first))

    return forward
