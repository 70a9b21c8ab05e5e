"""Models whose weights are drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hfscale import console
from hfscale.models.text import TextClassifier
from hfscale.schemas import RnnSettings, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def new_rnn_classifier(
    settings: RnnSettings, tokenizer: PreTrainedTokenizerBase, task: Task, label_names: Sequence[str], seed: int
) -> TextClassifier:
    """An LSTM or GRU classifier over the tokenizer's vocabulary, its weights drawn from `seed`.

    Raises:
        ModelError: where the tokenizer has no token to pad with.
    """
    import torch

    from hfscale.models.rnn import RnnConfig, RnnForSequenceClassification

    config = RnnConfig(
        vocab_size=len(tokenizer),
        cell=settings.cell,
        embedding_size=settings.embedding_size,
        hidden_size=settings.hidden_size,
        num_hidden_layers=settings.num_layers,
        bidirectional=settings.bidirectional,
        dropout=settings.dropout,
        pad_token_id=tokenizer.pad_token_id,
        problem_type=task,
        id2label=dict(enumerate(label_names)),
        label2id={name: number for number, name in enumerate(label_names)},
    )
    torch.manual_seed(seed)
    model = RnnForSequenceClassification(config)
    console.say(f"model      {settings.title}, {model.num_parameters():,} parameters, all drawn at random")
    return TextClassifier(model, tokenizer)
