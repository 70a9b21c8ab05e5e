"""What two models are compared on: the validation rows of the run they come from, or made-up token ids or pixels."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch

from hfscale import console, data, evaluation
from hfscale.batch import NO_LABEL, Batch
from hfscale.compression.kinds import SavedModel
from hfscale.compression.pruning_units import CNN
from hfscale.data.sources import last_part
from hfscale.errors import DataError, HfscaleError
from hfscale.models import TextClassifier
from hfscale.models.targets import attach_language_loss
from hfscale.schemas import (
    ConversationSettings,
    CorpusSettings,
    DataSettings,
    GenerationSettings,
    ImageDataSettings,
    MaskSettings,
    TextPairSettings,
)
from hfscale.training.seq2seq_loss import shifted

if TYPE_CHECKING:
    from accelerate import Accelerator

_SYNTHETIC = 32  # sequences
_LENGTH = 64  # tokens of each, or the model's positions
_BATCHES = 32  # of packed sequences, at least: too few tell nothing about how sure a loss is


class Sampled(Protocol):
    """Settings of how much of the validation data is looked at."""

    @property
    def examples(self) -> int: ...

    @property
    def batch_size(self) -> int: ...


class Scored(NamedTuple):
    """How a model fares on rows with right answers."""

    metrics: dict[str, float]
    """The main one first."""
    spread: np.ndarray
    """Values of the main one on rows drawn with replacement (see `evaluation.resampled`); empty for too few rows."""


Score = Callable[[Any], Scored]


class Inputs(NamedTuple):
    """Batches, and how a model fares on them."""

    description: str
    """How many of what; without a path of this machine."""
    batches: Iterable[Batch]
    score: Score | None
    """None for made-up inputs, which have no right answers."""


class _Rows(NamedTuple):
    description: str
    batches: Iterable[Batch]
    answer: Callable[[Any], Any]
    """Of a model: what `hfscale.evaluation` knows of it row by row."""


def find_inputs(accelerator: Accelerator, saved: SavedModel, processor: Any, settings: Sampled) -> Inputs:
    """As `run_inputs`, with the metric that chose the run's best step as the main one; where they can't be read, the
    reason is said, and token ids or pixels are drawn."""
    try:
        return run_inputs(accelerator, saved, processor, settings, best_metric(saved))
    except DataError as error:
        made_up = _made_up(saved.config)
        console.warn(
            f"{saved.folder} can't be compared on its run's validation data: {error}; {made_up.description} serve, "
            "which tell nothing about right answers"
        )
        return made_up


def best_metric(saved: SavedModel) -> str | None:
    """The one that chose the run's best step; None where that was the task's own main one."""
    return (saved.run.get("train") or {}).get("best_metric")


def run_inputs(
    accelerator: Accelerator, saved: SavedModel, processor: Any, settings: Sampled, metric: str | None = None
) -> Inputs:
    """The run's validation examples, evenly drawn where there are more than the settings want.

    Args:
        processor: the tokenizer, or a CNN's image processor.
        metric: the one that comes first; by default the task's own main one.

    Raises:
        DataError: where they can't be read, or there are none.
    """
    if not saved.run:
        raise DataError("no run's folder is around it, and it names none (--run RUN)")
    if processor is None:
        raise DataError("the model has no tokenizer")
    finders = {"causal": _packed, "masked": _packed, "image": _images, "seq2seq": _pairs}
    try:
        # How many are trained on, and which of them stand among these, was said in the run.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            found = finders.get(saved.kind, _labelled)(accelerator, saved, processor, settings)
            return Inputs(found.description, found.batches, partial(_score, found.answer, metric))
    except (HfscaleError, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(" ".join(str(error).split())) from None


def _images(accelerator: Accelerator, saved: SavedModel, processor: Any, settings: Sampled) -> _Rows:
    told = ImageDataSettings(**saved.run["data"])
    images = data.load_image_splits(told).validation
    if images is None:
        raise DataError("the run held none out")
    if images.classes.names != tuple(saved.config.id2label[number] for number in range(len(saved.config.id2label))):
        raise DataError("the images have other classes than the model")
    if len(images) > settings.examples:
        rows = np.linspace(0, len(images) - 1, settings.examples).astype(int)
        images = data.Images(images.table.select(rows), images.classes)
    channels: dict[str, Any] = {"mean": processor.image_mean, "std": processor.image_std}
    batches = data.ImageEvalBatches(images, batch_size=settings.batch_size, **channels)

    def answer(model: Any) -> Any:
        table: Any = images
        return evaluation.classifier_answers(accelerator, model, batches, table, images.classes)

    name = last_part(told.validation or told.train)
    return _Rows(f"{len(images):,} validation images of {name}", batches, answer)


def _labelled(accelerator: Accelerator, saved: SavedModel, tokenizer: Any, settings: Sampled) -> _Rows:
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

    def answer(model: Any) -> Any:
        return evaluation.classifier_answers(accelerator, model, batches, encoded, labels)

    name = last_part(told.validation or told.train)
    return _Rows(f"{len(table):,} validation examples of {name}", batches, answer)


def _pairs(accelerator: Accelerator, saved: SavedModel, tokenizer: Any, settings: Sampled) -> _Rows:
    """The first ones, as many as each evaluation of the run wrote: its own figure comes out again."""
    told, task = TextPairSettings(**saved.run["data"]), saved.run["task"]
    generation = GenerationSettings(**saved.run.get("generation") or {})
    table = data.load_text_pairs(told).validation
    if table is None:
        raise DataError("the run held none out")
    number = min(len(table), settings.examples, generation.eval_examples or settings.examples)
    encoded = data.tokenize_pairs(table.select(range(number)), tokenizer, told, is_training=False)
    padding = {"pad_token_id": tokenizer.pad_token_id, "padding_side": tokenizer.padding_side}
    batches = data.EvalBatches(encoded, batch_size=settings.batch_size, **padding)
    references = encoded["text_pair"][:] if generation.eval_examples else []
    if references:
        evaluation.require_metrics(task)

    def answer(model: Any) -> Any:
        return evaluation.written_answers(accelerator, model, tokenizer, batches, task, references)

    description = f"{number:,} validation pairs of {last_part(told.validation or told.train)}"
    description += ", written greedily" if references else ""
    return _Rows(description, [_teacher_forced(batch, saved.config) for batch in batches], answer)


def _teacher_forced(batch: Batch, config: Any) -> Batch:
    """The batch with what the decoder reads in place of its labels."""
    inputs = {name: value for name, value in batch.inputs.items() if name != "labels"}
    labels = batch.inputs["labels"]
    inputs["decoder_input_ids"] = shifted(labels, config.decoder_start_token_id, config.pad_token_id)
    inputs["decoder_attention_mask"] = (labels != NO_LABEL).long()
    return batch._replace(inputs=inputs)


def _packed(accelerator: Accelerator, saved: SavedModel, tokenizer: Any, settings: Sampled) -> _Rows:
    held_out, objective, name = (_chat if saved.is_chat else _text)(saved, tokenizer)
    size = min(settings.batch_size, settings.examples, max(1, len(held_out) // _BATCHES))
    every = data.PackedEvalBatches(held_out, objective, pad_token_id=tokenizer.pad_token_id, batch_size=size)
    count = -(-len(held_out) // size)
    drawn = set(np.linspace(0, count - 1, min(count, settings.examples // size)).astype(int).tolist())
    batches = [batch for number, batch in enumerate(every) if number in drawn]

    def answer(model: Any) -> Any:
        if isinstance(model, torch.nn.Module) and "forward" not in vars(model):  # an ONNX file's sums them itself
            attach_language_loss(model)  # type: ignore[arg-type]
        return evaluation.language_losses(accelerator, model, batches, held_out.tokens_per_byte)

    shown = sum(batch.num_examples for batch in batches)
    description = f"{shown:,} validation sequences of {last_part(name)}"
    return _Rows(description, batches, answer)


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
    if config.model_type == CNN:
        shape = (_SYNTHETIC, config.num_channels, *config.height_and_width)
        pixels = torch.randn(shape, generator=draw)
        return Inputs(f"{_SYNTHETIC} made-up images", [Batch({"pixel_values": pixels}, _SYNTHETIC, 0)], None)
    length = min(_LENGTH, getattr(config, "max_position_embeddings", None) or _LENGTH)
    ids = torch.randint(0, config.vocab_size, (_SYNTHETIC, length), generator=draw)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if config.is_encoder_decoder:
        inputs |= {f"decoder_{name}": value for name, value in inputs.items()}
    batch = Batch(inputs, _SYNTHETIC, ids.numel())
    return Inputs(f"{_SYNTHETIC} made-up sequences of {length} random token ids", [batch], None)


def _score(answer: Callable[[Any], Any], main: str | None, model: Any) -> Scored:
    """Of what a model answers: the metric `main` first, where there is such a one."""
    outcome = answer(model)
    values = outcome.metrics()
    values = {**({main: values[main]} if main in values else {}), **values}
    return Scored(values, evaluation.resampled(outcome, next(iter(values))))


class _Shape(NamedTuple):
    """In place of a model whose weights are not needed yet."""

    config: Any
