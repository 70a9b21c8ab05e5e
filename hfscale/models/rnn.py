"""A recurrent text classifier: embedding, LSTM or GRU, mean and maximum over the words, a linear layer.

LSTM: Hochreiter & Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735; GRU: Cho et al. 2014,
https://arxiv.org/abs/1406.1078. Maximum over the states of a bidirectional LSTM: Conneau et al. 2017,
https://arxiv.org/abs/1705.02364; maximum and mean side by side: Howard & Ruder 2018, https://arxiv.org/abs/1801.06146.

This file is copied into every model folder, so that the folder loads where hfscale is not installed: it imports
nothing but torch and transformers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class RnnConfig(PreTrainedConfig):
    """Shape of an RNN classifier: `hidden_size` is that of one direction, `dropout` that of every place with one."""

    model_type = "hfscale_rnn"

    def __init__(
        self,
        vocab_size: int = 8000,
        cell: str = "lstm",
        embedding_size: int = 128,
        hidden_size: int = 128,
        num_hidden_layers: int = 1,
        bidirectional: bool = True,
        dropout: float = 0.5,
        **kwargs: Any,
    ) -> None:
        self.vocab_size, self.cell = vocab_size, cell
        self.embedding_size, self.hidden_size = embedding_size, hidden_size
        self.num_hidden_layers, self.bidirectional, self.dropout = num_hidden_layers, bidirectional, dropout
        super().__init__(**kwargs)


class RnnEncoder(nn.Module):
    """Token ids -> one vector per text, the mean and the maximum of its recurrent states."""

    def __init__(self, config: RnnConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_size)
        self.dropout = nn.Dropout(config.dropout)
        self.recurrent = {"lstm": nn.LSTM, "gru": nn.GRU}[config.cell](
            config.embedding_size,
            config.hidden_size,
            config.num_hidden_layers,
            batch_first=True,
            dropout=config.dropout if config.num_hidden_layers > 1 else 0.0,
            bidirectional=config.bidirectional,
        )
        self.output_size = 2 * config.hidden_size * (2 if config.bidirectional else 1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(batch, positions) ids and 0/1 mask -> (batch, output_size). Padding, on either side, changes nothing."""
        front = attention_mask.argsort(dim=1, descending=True, stable=True)  # real tokens first, in their order
        embedded = self.dropout(self.embedding(input_ids.gather(1, front)))
        lengths = attention_mask.sum(dim=1).clamp(min=1)  # an empty text is read as one padding token
        packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)
        is_padding = torch.arange(states.shape[1], device=states.device) >= lengths[:, None]
        mean = states.sum(dim=1) / lengths[:, None]  # states of padding are 0
        maximum = states.masked_fill(is_padding[..., None], -torch.inf).amax(dim=1)
        return torch.cat([mean, maximum], dim=-1)


class RnnForSequenceClassification(PreTrainedModel):
    """An LSTM or GRU under a linear head, for all three problem types of transformers."""

    config_class = RnnConfig
    base_model_prefix = "rnn"

    def __init__(self, config: RnnConfig) -> None:
        super().__init__(config)
        self.rnn = RnnEncoder(config)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(self.rnn.output_size, len(config.id2label or ()))
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.rnn.embedding

    def set_input_embeddings(self, value: Any) -> None:
        self.rnn.embedding = value

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **_: Any,
    ) -> SequenceClassifierOutput:
        """(batch, positions) ids -> (batch, labels) logits, and the mean loss where `labels` are given.

        `token_type_ids` are ignored: a pair is told apart by the separator between its texts.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        logits = self.classifier(self.dropout(self.rnn(input_ids, mask)))
        loss = None if labels is None else self._loss(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)  # type: ignore[arg-type]

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.config.problem_type == "regression":
            return nn.functional.mse_loss(logits.view(-1), labels.view(-1).to(logits.dtype))
        if self.config.problem_type == "multi_label_classification":
            return nn.functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
        return nn.functional.cross_entropy(logits, labels)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Recurrent weights orthogonal, gate by gate (Saxe et al. 2014), and forget gates open at first (Jozefowicz
        et al. 2015): both let gradients pass through many steps."""
        for name, parameter in module.named_parameters(recurse=False):
            if getattr(parameter, "_is_hf_initialized", False):
                continue
            if isinstance(module, nn.Embedding):
                nn.init.normal_(parameter, std=0.1)
            elif name.startswith("weight_hh"):
                for gate in parameter.split(self.config.hidden_size):
                    nn.init.orthogonal_(gate)
            elif name.startswith("weight"):
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)
            if name.startswith("bias_ih") and isinstance(module, nn.LSTM):
                parameter.split(self.config.hidden_size)[1].fill_(1.0)  # gates: input, forget, cell, output


# What `save_pretrained` needs to put this file into the folder.
RnnConfig.register_for_auto_class()
RnnForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
if not __name__.startswith("transformers_modules"):  # a copy that came with weights must not take this one's place
    AutoConfig.register(RnnConfig.model_type, RnnConfig, exist_ok=True)
    AutoModelForSequenceClassification.register(RnnConfig, RnnForSequenceClassification, exist_ok=True)
