"""Image classifiers: a new convolutional network, or one to continue from."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hfscale import console
from hfscale.errors import ModelError
from hfscale.files import replacing_folder
from hfscale.models.locate import locate_model
from hfscale.network import asking_hub, plain_words
from hfscale.schemas import CnnSettings, ModelSettings

if TYPE_CHECKING:
    from hfscale.models.cnn import CnnForImageClassification, CnnImageProcessor

_CONV_CHANNELS = [32, 64, 64]
_WAY_OUT = "give the model folder or the Hub id of a network of this recipe (private ones need `hf auth login`)"


class ImageClassifier(NamedTuple):
    """A model with its image processor."""

    model: CnnForImageClassification
    processor: CnnImageProcessor


def load_image_classifier(
    settings: CnnSettings,
    shape: tuple[int, int, int],
    label_names: Sequence[str],
    mean_and_std: tuple[list[float], list[float]],
    seed: int,
) -> ImageClassifier:
    """A network for images of `shape` (height, width, channels): the one that `settings` name, else a new one.

    A new one normalizes with `mean_and_std`, one that was trained with what it was trained on. For other labels its
    last layer is drawn anew from `seed`.

    Raises:
        ModelError: for a model that can't be found, is no such network, or takes images of another shape, and for
            images too small for the convolutions of a new one.
    """
    if settings.name:
        return _trained(settings, shape, label_names, seed)
    return _new(settings, shape, label_names, mean_and_std, seed)


def _new(
    settings: CnnSettings,
    shape: tuple[int, int, int],
    label_names: Sequence[str],
    mean_and_std: tuple[list[float], list[float]],
    seed: int,
) -> ImageClassifier:
    import torch

    from hfscale.models.cnn import CnnConfig, CnnForImageClassification, CnnImageProcessor, features_shape

    height, width, channels = shape
    fitting = [n for n in range(1, len(_CONV_CHANNELS) + 1) if min(features_shape(height, width, n)) >= 1]
    conv_channels = settings.conv_channels or _CONV_CHANNELS[: max(fitting, default=0)]
    if not conv_channels or min(features_shape(height, width, len(conv_channels))) < 1:
        fewer = f"; at most {max(fitting)} fit (--model.conv_channels), or" if fitting else ";"
        raise ModelError(
            f"images of {height}x{width} are too small for {len(conv_channels) or 'any'} convolutions{fewer} enlarge "
            "them with --data.image_size"
        )
    config = CnnConfig(
        image_size=height if height == width else [height, width],
        num_channels=channels,
        conv_channels=list(conv_channels),
        hidden_size=settings.hidden_size or 64,
        dropout=settings.dropout or 0.0,
        id2label=dict(enumerate(label_names)),
        label2id={name: number for number, name in enumerate(label_names)},
        problem_type="single_label_classification",
    )
    torch.manual_seed(seed)
    model = CnnForImageClassification(config)
    mean, std = mean_and_std
    processor = CnnImageProcessor({"height": height, "width": width}, channels, mean, std)
    number, layers = sum(parameter.numel() for parameter in model.parameters()), "-".join(map(str, conv_channels))
    console.say(f"model      new: convolutions {layers}, dense {config.hidden_size}, {number:,} parameters")
    return ImageClassifier(model, processor)


def _trained(
    settings: CnnSettings, shape: tuple[int, int, int], label_names: Sequence[str], seed: int
) -> ImageClassifier:
    import torch

    from hfscale.models.cnn import CnnConfig, CnnForImageClassification, CnnImageProcessor

    assert settings.name
    source, options = locate_model(ModelSettings(name=settings.name, revision=settings.revision))
    asking = asking_hub(f"model {source}") if "revision" in options else contextlib.nullcontext()
    names = {"id2label": dict(enumerate(label_names)), "label2id": {name: i for i, name in enumerate(label_names)}}
    with plain_words(f"model {settings.name}", _WAY_OUT), asking:
        content, _ = CnnConfig.get_config_dict(source, **options)
        if content.get("model_type") != CnnConfig.model_type:
            raise ValueError(f"it is of type {content.get('model_type')}, not {CnnConfig.model_type}")
        config = CnnConfig.from_dict(content)
        had = [str(label) for _, label in sorted((config.id2label or {}).items())]
        config.id2label, config.label2id = names["id2label"], names["label2id"]
        torch.manual_seed(seed)
        loaded: Any = CnnForImageClassification.from_pretrained(
            source,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **options,
        )
        processor = CnnImageProcessor.from_pretrained(source, **options)
    model, info = loaded
    takes = (*config.height_and_width, config.num_channels)
    if takes != shape:
        raise ModelError(
            f"{settings.name} takes images of {takes[0]}x{takes[1]} with {takes[2]} channel(s), these are of "
            f"{shape[0]}x{shape[1]} with {shape[2]}; give --data.image_size {takes[0]} --data.channels {takes[2]}"
        )
    if had != list(label_names):
        with torch.no_grad():
            fresh = torch.nn.Linear(model.classifier.in_features, model.classifier.out_features)
            model.classifier.load_state_dict(fresh.state_dict())
        console.say(f"model      {settings.name}: the last layer is new, for {len(label_names)} other classes")
    _refuse_untrained(settings.name, info)
    return ImageClassifier(model, processor)


def _refuse_untrained(name: str, info: dict[str, Any]) -> None:
    """Only the last layer may be new: all other weights must have come from the files."""
    lacking = sorted(key for key in info["missing_keys"] if not key.startswith("classifier."))
    if lacking:
        raise ModelError(f"{name} holds no trained network: {', '.join(lacking[:4])} are not in it")
    other = sorted(key for key, *_ in info["mismatched_keys"] if not key.startswith("classifier."))
    if other:
        raise ModelError(
            f"{name} holds no such network: {', '.join(other[:4])} have another shape than its config says"
        )


def saved_image_classifier(folder: Path) -> ImageClassifier:
    """Load a model folder that a run wrote, classes included, ready to predict.

    Raises:
        ModelError: where the folder doesn't hold such a model.
    """
    from hfscale.models.cnn import CnnConfig

    with plain_words(f"model {folder}", _WAY_OUT):
        config = CnnConfig.from_pretrained(folder)
    shape = (*config.height_and_width, config.num_channels)
    names = [str(name) for _, name in sorted((config.id2label or {}).items())]
    classifier = _trained(CnnSettings(name=str(folder)), shape, names, 0)
    classifier.model.eval()
    return classifier


def save_image_classifier(classifier: ImageClassifier, folder: Path, weights: dict[str, Any] | None = None) -> None:
    """Write a plain Hugging Face folder, whole or not at all: safetensors, config, processor, and their code.

    `weights` stand in for those of the model where it is sharded.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar for a single small file
    with replacing_folder(folder) as temporary:
        classifier.model.save_pretrained(temporary, state_dict=weights)
        classifier.processor.save_pretrained(temporary)
