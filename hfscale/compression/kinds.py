"""What a saved model is, and how it is loaded: classifiers of texts, words, spans and images, language models, and
encoder-decoders."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hfscale.compression.pruning_units import CNN
from hfscale.compression.refusals import EXPORTABLE, config_of
from hfscale.errors import ModelError
from hfscale.models.adapters import is_adapter
from hfscale.models.heads import auto_class, is_seq2seq, task_of
from hfscale.models.quantization import is_quantized, quantized_options, require_bitsandbytes
from hfscale.network import plain_words
from hfscale.runs import model_folder_of, run_around, settings_of
from hfscale.schemas import Task

Kind = Task | Literal["causal", "masked", "seq2seq", "image"]
_LANGUAGE: dict[str, Kind] = {"ForCausalLM": "causal", "LMHeadModel": "causal", "ForMaskedLM": "masked"}
_CLASSIFIERS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


@dataclass(frozen=True)
class SavedModel:
    """A model folder, and what is known of it without its weights."""

    folder: Path
    config: Any
    """transformers' config."""
    kind: Kind
    run: dict[str, Any]
    """The settings of the run that it came from; empty where that isn't known."""

    @property
    def is_adapter(self) -> bool:
        return is_adapter(self.folder)

    @property
    def is_chat(self) -> bool:
        """Whether it was taught to answer."""
        return "answers" in self.run or "preference" in self.run

    @property
    def model_class(self) -> Any:
        """transformers' class that loads it."""
        return model_class_of(self.kind)

    def moved(self, folder: Path) -> SavedModel:
        """What was made of it, in another folder."""
        return dataclasses.replace(self, folder=folder)


def find_model(folder: Path, run: Path | None = None) -> SavedModel:
    """The model of a run folder, or in a model folder; of the run around it, or the one given.

    Raises:
        ModelError: where there is none, or one of another kind.
    """
    from transformers import AutoConfig

    from hfscale.models import cnn, rnn  # noqa: F401  (the auto classes know them from then on)

    found = model_folder_of(folder)
    run = run or run_around(folder)
    settings = settings_of(run) if run else {}
    config_of(found)
    with plain_words(f"model {found}", "give a run folder or a model folder"):
        config = AutoConfig.from_pretrained(found)
    return SavedModel(found, config, _kind_of(found, config), settings)


def _kind_of(folder: Path, config: Any) -> Kind:
    name = str(next(iter(config.architectures or []), ""))
    if config.model_type == CNN:
        return "image"
    if is_seq2seq(folder):
        return "seq2seq"
    for ending, kind in _LANGUAGE.items():
        if name.endswith(ending):
            return kind
    if name.endswith(_CLASSIFIERS):
        return task_of(name, config)
    raise ModelError(f"{folder} holds a {name or config.model_type}; {EXPORTABLE}")


def model_class_of(kind: Kind) -> Any:
    """transformers' auto class of a kind."""
    import transformers

    others = {
        "causal": transformers.AutoModelForCausalLM,
        "masked": transformers.AutoModelForMaskedLM,
        "seq2seq": transformers.AutoModelForSeq2SeqLM,
        "image": transformers.AutoModelForImageClassification,
    }
    return others.get(kind) or auto_class(kind)  # type: ignore[arg-type]


def load_model(saved: SavedModel, in_bits: dict[str, Any] | None = None, dtype: str = "float32") -> Any:
    """The model in a folder without an adapter, in float32, or another type, or as its folder quantized it, or by the
    arguments `in_bits`; in evaluation mode.

    Raises:
        ModelError: where weights are missing or of another shape, whose place random ones would take.
    """
    if is_quantized(saved.config):
        require_bitsandbytes()
    with plain_words(f"model {saved.folder}", "give a model that transformers loads"):
        model, info = saved.model_class.from_pretrained(
            saved.folder,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            **quantized_options(in_bits),
        )
    lacking = sorted(map(str, info["missing_keys"]))
    if lacking:
        raise ModelError(f"{saved.folder} holds no whole model: {', '.join(lacking[:4])} are not in its weights")
    return model.eval()
