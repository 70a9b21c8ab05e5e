"""Classifiers of texts, words and spans by Hub id, folder or `builtin:` name."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hfscale import console
from hfscale.data.vocabulary import ensure_padding, refuse_made_up
from hfscale.errors import ModelError
from hfscale.files import replacing_folder
from hfscale.models.adapted import adapted_model
from hfscale.models.adapters import add_adapter, base_of, is_adapter, modules_to_save, note_base, save_weights
from hfscale.models.empty import empty_model
from hfscale.models.first_token import read_first_token_only
from hfscale.models.heads import auto_class, head_of, refuse_other_kinds, set_dropout, set_outputs, task_of
from hfscale.models.locate import locate_model
from hfscale.models.pretrained import pretrained_model
from hfscale.models.quantization import (
    bits_arguments,
    note_quantization,
    noted_quantization,
    quantized_options,
    refuse_quantized_base,
    refuse_quantized_new,
    require_bitsandbytes,
)
from hfscale.network import asking_hub, plain_words
from hfscale.schemas import ClassifierModelSettings, LoraSettings, ModelSettings, QuantSettings, Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_TASK_TYPES = {
    "SequenceClassification": "SEQ_CLS",
    "TokenClassification": "TOKEN_CLS",
    "QuestionAnswering": "QUESTION_ANS",
}
_NO_LIMIT = 1_000_000  # tokenizers without a limit say 10**30
_FALLBACK_LENGTH = 512
_SPAN_LENGTH = 384  # of question and context, as BERT was fine-tuned on SQuAD (Devlin et al. 2018)


class TextClassifier(NamedTuple):
    """A model with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def task(self) -> Task:
        """What the model's head is for."""
        return task_of(type(self.model).__name__, self.model.config)

    def max_length(self, wanted: int | None) -> int:
        """Tokens that one example may have: `wanted`, or the smallest limit of tokenizer and model.

        Raises:
            ModelError: where `wanted` exceeds the model's positions.
        """
        positions = getattr(self.model.config, "max_position_embeddings", None) or _NO_LIMIT
        if self.model.config.model_type in ("roberta", "xlm-roberta", "camembert", "longformer", "mpnet"):
            positions -= self.model.config.pad_token_id + 1  # their positions start behind the padding's
        limit = min(self.tokenizer.model_max_length, positions)
        if wanted is None:
            limit = limit if limit < _NO_LIMIT else _FALLBACK_LENGTH
            return min(limit, _SPAN_LENGTH) if self.task == "question_answering" else limit
        if wanted > positions:
            raise ModelError(f"--data.max_length {wanted} is more than the model's {positions} positions")
        return wanted


def load_text_classifier(
    settings: ModelSettings,
    task: Task,
    label_names: Sequence[str],
    seed: int,
    lora: LoraSettings | None = None,
    quant: QuantSettings | None = None,
    empty: bool = False,
) -> TextClassifier:
    """Load any encoder that has the task's head (see `heads`), in float32, with outputs for these labels.

    A classifier's head for other labels is replaced by one drawn from `seed`; so are all weights where the settings
    ask for random ones. With `lora` the model is frozen under an adapter (see `add_adapter`), in the bits of `quant`
    (see `quantized_options`). An `empty` model gets its weights later, from another process (see
    `hfscale.models.empty`); one under an adapter is never empty.

    Raises:
        ModelError: for a model that can't be found, has no such head, or whose vocabulary doesn't fit its tokenizer.
        MissingExtraError: for a `builtin:` model whose package is not installed.
    """
    import torch
    from transformers import AutoConfig, AutoTokenizer

    from hfscale.models import rnn  # noqa: F401  (the auto classes know it from then on)

    source, options = locate_model(settings)
    asking = asking_hub(f"model {source}") if "revision" in options else contextlib.nullcontext()
    with _plain_words(settings.name, "--model.trust_remote_code true"), asking:
        config = AutoConfig.from_pretrained(source, **options)
        refuse_quantized_base(config, settings.name)
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        draws_head = _has_another_head(config, task, label_names)
        set_outputs(config, task, list(label_names))
        _set_dropout(config, settings)
        torch.manual_seed(seed)
        all_random = isinstance(settings, ClassifierModelSettings) and settings.random_weights
        if empty and lora is None:  # with an adapter the first process alone would know what is new
            model, new = empty_model(lambda: _drawn(config, task, options)[0]), set[str]()
        elif all_random:
            model, new = _drawn(config, task, options)
        else:
            model, new = _pretrained(settings, source, config, task, quant, options)
    refuse_made_up(tokenizer, settings.name)
    if draws_head:
        new |= _draw_head(model)
    _prepare_padding(model, tokenizer)
    if head_of(task) != "SequenceClassification":
        tokenizer = _for_positions(tokenizer, source, options)
    _refuse_another_tokenizer(model, tokenizer, settings.name)
    if all_random:
        console.say(f"model      {settings.name}, {model.num_parameters():,} parameters, all drawn at random")
    else:
        _say_what_is_new(model, new, settings.name)
    read_first_token_only(model)
    if lora is not None:
        kind, whole = _TASK_TYPES[head_of(task)], modules_to_save(model, new)
        model = add_adapter(model, lora, kind, note_base(model, settings), settings.revision, whole, seed)
    return TextClassifier(model, tokenizer)


def _refuse_another_tokenizer(model: Any, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    known = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > known:
        raise ModelError(
            f"{name}: the tokenizer has {len(tokenizer):,} tokens, the model {known:,}; they don't belong together"
        )


def _has_another_head(config: Any, task: Task, label_names: Sequence[str]) -> bool:
    """Whether a model's files have a head for the task, with other outputs."""
    if task == "question_answering":  # a span's ends have no names
        return False
    had = [str(label) for _, label in sorted((config.id2label or {}).items())]
    had_head = any(name.endswith(f"For{head_of(task)}") for name in config.architectures or [])
    return had_head and had != list(label_names)


def _set_dropout(config: Any, settings: ModelSettings) -> None:
    dropout = settings.dropout if isinstance(settings, ClassifierModelSettings) else None
    if dropout is not None and not set_dropout(config, dropout):
        raise ModelError(f"--model.dropout has no effect: {settings.name} has no dropout; leave it out")


def _pretrained(
    settings: ModelSettings, source: str, config: Any, task: Task, quant: QuantSettings | None, options: dict[str, Any]
) -> tuple[Any, set[str]]:
    """A model of the settings' name, in the bits of `quant`, and the names of the weights that were drawn."""
    in_bits = bits_arguments(config, auto_class(task), quant, settings.trust_remote_code)
    model, new = pretrained_model(auto_class(task), source, config, options | quantized_options(in_bits))
    note_quantization(model.config, in_bits)
    refuse_quantized_new(model, new, settings.name)
    return model, new


def _drawn(config: Any, task: Task, options: dict[str, Any]) -> tuple[Any, set[str]]:
    """A model of this architecture, all its weights new."""
    import torch

    trust = options["trust_remote_code"]
    model = auto_class(task).from_config(config, dtype=torch.float32, trust_remote_code=trust)
    return model, {name for name, _ in model.named_parameters()}


def save_text_classifier(classifier: TextClassifier, folder: Path, weights: dict[str, Any] | None = None) -> None:
    """Write a plain Hugging Face folder, whole or not at all: safetensors, config and tokenizer. `weights` stand
    in for those of the model where it is sharded."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    with replacing_folder(folder) as temporary:
        save_weights(classifier.model, temporary, weights)
        classifier.tokenizer.save_pretrained(temporary)


def saved_text_classifier(
    folder: Path, trust_remote_code: bool = False, base: ModelSettings | None = None
) -> TextClassifier:
    """Load a model folder that a run wrote, labels and head included, ready to predict.

    Args:
        base: the model that an adapter was trained on; by default the one that it names.

    Raises:
        ModelError: where the folder doesn't hold such a model.
    """
    from transformers import AutoConfig, AutoTokenizer

    from hfscale.models import rnn  # noqa: F401  (the auto classes know it from then on)

    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} holds no model (no config.json)")
    refuse_other_kinds(folder)
    with _plain_words(str(folder), "--trust_remote_code"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        task = task_of(next(iter(config.architectures or []), ""), config)
        if is_adapter(folder):
            return _adapted(folder, config, task, trust_remote_code, base)
        if hasattr(config, "quantization_config"):
            require_bitsandbytes()
        model, info = auto_class(task).from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, trust_remote_code=trust_remote_code
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    lacking = sorted(str(name) for name in info["missing_keys"])
    if lacking:
        raise ModelError(f"{folder} holds no trained classifier: {', '.join(lacking[:4])} are not in its weights")
    refuse_made_up(tokenizer, str(folder))
    read_first_token_only(model)
    return TextClassifier(model.eval(), tokenizer)


def _adapted(
    folder: Path, config: Any, task: Task, trust_remote_code: bool, base: ModelSettings | None
) -> TextClassifier:
    """The model that an adapter was trained on, with the adapter and its head."""
    from transformers import AutoTokenizer

    base = dataclasses.replace(base or base_of(folder), trust_remote_code=trust_remote_code)
    model = adapted_model(folder, config, auto_class(task), base, noted_quantization(config))
    read_first_token_only(model.get_base_model())
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    refuse_made_up(tokenizer, str(folder))
    return TextClassifier(model, tokenizer)


def _plain_words(name: str, trust_flag: str) -> plain_words:
    way_out = "give a model folder, a Hub id (private ones need `hf auth login`), or builtin:minilm"
    return plain_words(f"model {name}", way_out, trust_flag)


def _prepare_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """A decoder classifies at the last token that is not padding, and so has to know which one that is."""
    ensure_padding(tokenizer)
    model.config.pad_token_id = tokenizer.pad_token_id


def _for_positions(tokenizer: Any, source: str, options: dict[str, Any]) -> Any:
    """The tokenizer as targets at tokens need it: padding behind them, and a word the same wherever it stands."""
    from transformers import AutoTokenizer

    pre_tokenizer = str(tokenizer.backend_tokenizer.pre_tokenizer) if tokenizer.is_fast else ""
    if "ByteLevel(add_prefix_space=False" in pre_tokenizer:  # GPT-2's kin take the blank before a word as its part
        prefixed = AutoTokenizer.from_pretrained(source, add_prefix_space=True, **options)
        prefixed.pad_token = tokenizer.pad_token
        tokenizer = prefixed
    tokenizer.padding_side = "right"
    return tokenizer


def _draw_head(model: PreTrainedModel) -> set[str]:
    """Draw all that stands beside the encoder anew, and return its parameters' names.

    A head with as many outputs but other labels loads without complaint, and would start out confidently wrong.
    """
    new = set()
    for name, module in model.named_children():
        if name != model.base_model_prefix:
            for part, parameter in module.named_parameters():
                parameter._is_hf_initialized = False  # type: ignore[attr-defined]  # else transformers leaves it alone
                new.add(f"{name}.{part}")
            module.apply(model._init_weights)
    return new


def _say_what_is_new(model: PreTrainedModel, new: set[str], name: str) -> None:
    """Name the weights that were drawn at random; warn where that is more than a head."""
    parameters = dict(model.named_parameters())
    num_new = sum(parameters[key].numel() for key in new if key in parameters)
    if num_new:
        shown = ", ".join(sorted(new)[:4]) + (" ..." if len(new) > 4 else "")
        console.say(f"model      {name}, {model.num_parameters():,} parameters, {num_new:,} of them new ({shown})")
    if num_new > 0.2 * model.num_parameters():
        console.warn(
            f"{num_new / model.num_parameters():.0%} of {name} is random: its weights don't fit this model class"
        )
