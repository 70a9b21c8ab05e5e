"""The loss of encoder-decoders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from hfscale.batch import NO_LABEL

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hfscale.training.losses import LossFn


def seq2seq_loss(config: Any, label_smoothing: float = 0.0) -> LossFn:
    """Cross entropy of an encoder-decoder, summed over the (batch, tokens) `labels` that are not -100, in float32.

    The decoder reads what it is to write, one place later, behind its start token. `label_smoothing` spreads that
    share of each right token over the whole vocabulary (Szegedy et al. 2016, section 7).

    Args:
        config: transformers' of the model.
    """

    def loss_fn(model: nn.Module, inputs: dict[str, Any]) -> tuple[Tensor, int]:
        labels, logits = inputs["labels"], _logits(model, inputs, config)
        loss = F.cross_entropy(
            logits.flatten(0, 1),
            labels.flatten(),
            ignore_index=NO_LABEL,
            reduction="sum",
            label_smoothing=label_smoothing,
        )
        return loss, int((labels != NO_LABEL).sum())

    return loss_fn


def row_losses(model: nn.Module, inputs: dict[str, Any], config: Any) -> Tensor:
    """(batch, 2) the loss of each row, without smoothing, as a sum, and its number of targets."""
    labels = inputs["labels"]
    losses = F.cross_entropy(
        _logits(model, inputs, config).transpose(1, 2), labels, ignore_index=NO_LABEL, reduction="none"
    )
    return torch.stack([losses.sum(dim=1), (labels != NO_LABEL).sum(dim=1).float()], dim=1)


def _logits(model: nn.Module, inputs: dict[str, Any], config: Any) -> Tensor:
    """(batch, tokens, vocabulary) in float32."""
    given = {name: value for name, value in inputs.items() if name != "labels"}
    read = shifted(inputs["labels"], config.decoder_start_token_id, config.pad_token_id)
    return model(**given, decoder_input_ids=read, use_cache=False).logits.float()


def shifted(labels: Tensor, start_token_id: int, pad_token_id: int) -> Tensor:
    """(batch, tokens) what the decoder reads to write the (batch, tokens) labels."""
    read = torch.cat([torch.full_like(labels[:, :1], start_token_id), labels[:, :-1]], dim=1)
    return read.masked_fill(read == NO_LABEL, pad_token_id)
