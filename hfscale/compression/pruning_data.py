"""What a run learned from and was measured on, read again from the settings that it left behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from hfscale import data, evaluation, training
from hfscale.data.labels import Labels
from hfscale.errors import DataError
from hfscale.schemas import DataSettings, ImageDataSettings

if TYPE_CHECKING:
    from accelerate import Accelerator

    from hfscale.models import ImageClassifier, TextClassifier

_Settings = TypeVar("_Settings", DataSettings, ImageDataSettings)
_BATCH_SIZE = 8  # small: the importance of a unit must not cancel out between examples
_EVAL_BATCH_SIZE = 64


@dataclass(frozen=True)
class RunData:
    """Training examples, and how to score a model on the rows that `result.json` reports on."""

    train_batches: Callable[..., Any]
    """(seed, global_batch_size, micro_batch_size) -> what `fit` learns from, as the run did."""
    loss_fn: Any
    accelerator: Accelerator
    held_out: str | None
    """`test` or `validation`."""
    num_held_out: int
    score: Callable[[Any], dict[str, float]]
    """Metrics of a model on the held-out rows, the main one first."""

    def inputs(self, examples: int) -> list[dict[str, Any]]:
        """Batches of so many training examples (or all), on the model's device."""
        from accelerate.utils import send_to_device

        train = self.train_batches(seed=0, global_batch_size=_BATCH_SIZE, micro_batch_size=None)
        steps = min(-(-examples // _BATCH_SIZE), train.steps_per_epoch)
        batches = [batch for step in range(steps) for batch in train[step]]
        return [send_to_device(batch.inputs, self.accelerator.device) for batch in batches]  # type: ignore[misc]


def text_data(settings: dict[str, Any], classifier: TextClassifier, accelerator: Accelerator) -> RunData:
    """The data of a run of finetune_bert.py.

    Args:
        settings: the run's own, as its `config.yaml` has them.

    Raises:
        DataError: where they can't be read any more, or hold labels that the model doesn't know.
    """
    model, tokenizer = classifier
    read = _declared(DataSettings, settings)
    splits = data.load_splits(read, classifier.task)
    labels = Labels(classifier.task, _label_names(model.config))
    max_length = classifier.max_length(read.max_length)
    encoded = splits.map(lambda split: data.tokenize(split, tokenizer, max_length, labels, read.stride))
    padding: dict[str, Any] = {"pad_token_id": tokenizer.pad_token_id, "padding_side": tokenizer.padding_side}

    def score(model: Any) -> dict[str, float]:
        held_out: Any = encoded.held_out
        batches = data.EvalBatches(held_out, batch_size=_eval_batch_size(settings), **padding)
        return evaluation.score_classifier(accelerator, model, batches, held_out, labels)

    return RunData(
        partial(data.TrainBatches, encoded.train, **padding),
        training.classification_loss(classifier.task),
        accelerator,
        *_held_out(splits),
        score,
    )


def image_data(settings: dict[str, Any], classifier: ImageClassifier, accelerator: Accelerator) -> RunData:
    """The data of a run of train_cnn.py; see `text_data`."""
    model, processor = classifier
    splits = data.load_image_splits(_declared(ImageDataSettings, settings))
    labels = splits.train.classes
    if labels.names != _label_names(model.config):
        raise DataError(f"the images of {settings['data']['train']} have other classes than the model")
    shared: dict[str, Any] = {"mean": processor.image_mean, "std": processor.image_std}

    def score(model: Any) -> dict[str, float]:
        held_out: Any = splits.held_out
        batches = data.ImageEvalBatches(held_out, batch_size=_eval_batch_size(settings), **shared)
        return evaluation.score_classifier(accelerator, model, batches, held_out, labels)

    return RunData(
        partial(data.ImageTrainBatches, splits.train, **shared),
        training.classification_loss(labels.task),
        accelerator,
        *_held_out(splits),
        score,
    )


def _declared(schema: type[_Settings], settings: dict[str, Any]) -> _Settings:
    """The run's settings of its data."""
    if not settings.get("data"):
        raise DataError("no config.yaml of a run says what it is")
    try:
        return schema(**settings["data"])
    except (TypeError, ValueError) as error:
        raise DataError(f"config.yaml: {error}") from None


def _label_names(config: Any) -> tuple[str, ...]:
    return tuple(config.id2label[number] for number in range(len(config.id2label)))


def _held_out(splits: Any) -> tuple[str | None, int]:
    held_out = splits.held_out
    return ("test" if splits.test else "validation", len(held_out)) if held_out else (None, 0)


def _eval_batch_size(settings: dict[str, Any]) -> int:
    return (settings.get("train") or {}).get("eval_batch_size") or _EVAL_BATCH_SIZE
