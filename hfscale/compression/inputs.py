"""What two models are compared on: the validation rows of the run they come from, or made-up token ids or pixels."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from hfscale import console, data, evaluation
from hfscale.batch import Batch
from hfscale.compression.kinds import SavedModel
from hfscale.data.sources import last_part
from hfscale.errors import DataError, HfscaleError
from hfscale.models import TextClassifier
from hfscale.models.targets import attach_language_loss
from hfscale.schemas import (
    ConversationSettings,
    CorpusSettings,
    DataSettings,
    ExportSettings,
    ImageDataSettings,
    MaskSettings,
)

if TYPE_CHECKING:
    from accelerate import Accelerator

_SYNTHETIC = 32  # sequences
_LENGTH = 64  # tokens of each, or the model's positions

Score = Callable[[Any], dict[str, float]]


class Inputs(NamedTuple):
    """Batches, and how a model fares on them."""

    description: str
    """How many of what; without a path of this machine."""
    batches: Iterable[Batch]
    score: Score | None
    """Metrics of a model, the main one first; None for made-up inputs, which have no right answers."""


def find_inputs(accelerator: Accelerator, saved: SavedModel, processor: Any, settings: ExportSettings) -> Inputs:
    """The run's validation examples, evenly drawn where there are more than the settings want; where they can't be
    read, the reason is said, and token ids or pixels are drawn. `processor` is the tokenizer, or a CNN's."""
    reason = "it is not in a run's folder"
    if saved.run and processor is None:
        reason = "the model has no tokenizer"
    elif saved.run:
        find = {"causal": _packed, "masked": _packed, "image": _images}.get(saved.kind, _labelled)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # how many are trained on matters to nobody here
                return find(accelerator, saved, processor, settings)
        except (HfscaleError, OSError, KeyError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
    made_up = _made_up(saved.config)
    console.warn(
        f"{saved.folder} can't be compared on its run's validation data: {reason}; {made_up.description} serve"
    )
    return made_up


def _labelled(accelerator: Accelerator, saved: SavedModel, tokenizer: Any, settings: ExportSettings) -> Inputs:
    kind: Any = saved.kind
    told = DataSettings(**saved.run["data"])
    table = data.load_splits(told, kind).validation
    if table is None:
        raise DataError("the run held none out")
    if len(table) > settings.examples:
        table = table.select(np.linspace(0, len(table) - 1, settings.examples).astype(int))
    config = saved.config
    labels = data.Labels(kind, tuple(config.id2label[number] for number in sorted(config.id2label)))
    model: Any = _Shape(config)
    max_length = TextClassifier(model, tokenizer).max_length(told.max_length)
    encoded = data.tokenize(table, tokenizer, max_length, labels, told.stride)
    padding = {"pad_token_id": tokenizer.pad_token_id, "padding_side": tokenizer.padding_side}
    batches = data.EvalBatches(encoded, batch_size=settings.batch_size, **padding)

    def score(model: Any) -> dict[str, float]:
        return evaluation.score_classifier(accelerator, model, batches, encoded, labels)

    name = last_part(told.validation or told.train)
    return Inputs(f"{len(table):,} validation examples of {name}", batches, _main_first(score, saved.run))


def _images(accelerator: Accelerator, saved: SavedModel, processor: Any, settings: ExportSettings) -> Inputs:
    told = ImageDataSettings(**saved.run["data"])
    images = data.load_image_splits(told).validation
    if images is None:
        raise DataError("the run held none out")
    classes = images.classes
    if len(images) > settings.examples:
        rows = np.linspace(0, len(images) - 1, settings.examples).astype(int)
        images = data.Images(images.table.select(rows), classes)
    shared: dict[str, Any] = {"mean": processor.image_mean, "std": processor.image_std}
    batches = data.ImageEvalBatches(images, batch_size=settings.batch_size, **shared)

    def score(model: Any) -> dict[str, float]:
        return evaluation.score_classifier(accelerator, model, batches, images, classes)  # type: ignore[arg-type]

    name = last_part(told.validation or told.train)
    return Inputs(f"{len(images):,} validation images of {name}", batches, _main_first(score, saved.run))


def _packed(accelerator: Accelerator, saved: SavedModel, tokenizer: Any, settings: ExportSettings) -> Inputs:
    held_out, objective, name = (_chat if saved.is_chat else _text)(saved, tokenizer)
    size = min(settings.batch_size, settings.examples, len(held_out))
    every = data.PackedEvalBatches(held_out, objective, pad_token_id=tokenizer.pad_token_id, batch_size=size)
    count = -(-len(held_out) // size)
    drawn = set(np.linspace(0, count - 1, min(count, settings.examples // size)).astype(int).tolist())
    batches = [batch for number, batch in enumerate(every) if number in drawn]

    def score(model: Any) -> dict[str, float]:
        if isinstance(model, torch.nn.Module) and "forward" not in vars(model):
            attach_language_loss(model)  # type: ignore[arg-type]
        return evaluation.score_language_model(accelerator, model, batches, held_out.tokens_per_byte)

    shown = sum(batch.num_examples for batch in batches)
    description = f"{shown:,} validation sequences of {last_part(name)}"
    return Inputs(description, batches, _main_first(score, saved.run))


def _text(saved: SavedModel, tokenizer: Any) -> tuple[Any, Any, str]:
    """(packed held-out text, objective, name) of a run that pretrained."""
    told = CorpusSettings(**saved.run["data"])
    corpus = data.load_corpus(told)
    if corpus.validation is None:
        raise DataError("the run held none out")
    only_held_out = corpus._replace(train=corpus.validation)
    is_causal = saved.kind == "causal"
    framing = "decoder" if is_causal else "encoder"
    _, held_out = data.pack_corpus(only_held_out, tokenizer, told.max_length, framing)
    mask = MaskSettings(**saved.run.get("mask", {}))
    objective = data.next_tokens if is_causal else data.MaskedTokens(
        tokenizer, fraction=mask.fraction, whole_words=mask.whole_words, seed=0, max_length=told.max_length
    )  # fmt: skip
    return held_out, objective, told.validation or told.train


def _chat(saved: SavedModel, tokenizer: Any) -> tuple[Any, Any, str]:
    """As `_text`, of a run that taught to answer, or to prefer: then of the chosen answers."""
    told = ConversationSettings(**saved.run["data"])
    load = data.load_preferences if "preference" in saved.run else data.load_conversations
    conversations = load(told)
    if conversations.validation is None:
        raise DataError("the run held none out")
    only_held_out = conversations._replace(train=conversations.validation)
    told = dataclasses.replace(told, template=None)  # the tokenizer was saved with it
    _, held_out = data.pack_conversations(only_held_out, data.ChatFormat(tokenizer, told), told)
    return held_out, data.answer_tokens, told.validation or told.train


def _made_up(config: Any) -> Inputs:
    draw = torch.Generator().manual_seed(0)
    if config.model_type == "hfscale_cnn":
        shape = (_SYNTHETIC, config.num_channels, *config.height_and_width)
        pixels = torch.randn(shape, generator=draw)
        return Inputs(f"{_SYNTHETIC} made-up images", [Batch({"pixel_values": pixels}, _SYNTHETIC, 0)], None)
    length = min(_LENGTH, getattr(config, "max_position_embeddings", None) or _LENGTH)
    ids = torch.randint(0, config.vocab_size, (_SYNTHETIC, length), generator=draw)
    batch = Batch({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, _SYNTHETIC, ids.numel())
    return Inputs(f"{_SYNTHETIC} made-up sequences of {length} random token ids", [batch], None)


def _main_first(score: Score, run: dict[str, Any]) -> Score:
    """The metric that chose the run's best step first."""
    return partial(_scored, score, (run.get("train") or {}).get("best_metric"))


def _scored(score: Score, main: str | None, model: Any) -> dict[str, float]:
    values = score(model)
    return {**({main: values[main]} if main in values else {}), **values}


class _Shape(NamedTuple):
    """In place of a model whose weights are not needed yet."""

    config: Any
