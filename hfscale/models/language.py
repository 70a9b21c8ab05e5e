"""Language models for pretraining: of a given shape with random weights, or one to continue from."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hfscale import console
from hfscale.data.vocabulary import Reader, ensure_padding, load_or_train_tokenizer, refuse_made_up
from hfscale.errors import ModelError
from hfscale.files import replacing_folder
from hfscale.models.adapters import add_adapter, modules_to_save, note_base, save_weights
from hfscale.models.empty import empty_model
from hfscale.models.heads import set_dropout
from hfscale.models.locate import locate_model
from hfscale.models.new_config import new_model_config
from hfscale.models.quantization import (
    bits_arguments,
    note_quantization,
    quantized_options,
    refuse_quantized_base,
    refuse_quantized_new,
    rows_apart,
)
from hfscale.models.targets import attach_language_loss, prepare_language_model
from hfscale.network import asking_hub, plain_words
from hfscale.schemas import (
    CausalModelSettings,
    LanguageModelSettings,
    LoraSettings,
    MaskedModelSettings,
    QuantSettings,
    TokenizerSettings,
)

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_WITH_TYPES = ("bert", "electra")


class LanguageModel(NamedTuple):
    """A model with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def load_masked_model(
    settings: MaskedModelSettings, tokenizer: PreTrainedTokenizerBase, max_length: int, seed: int, empty: bool = False
) -> LanguageModel:
    """A masked language model for sequences of `max_length` tokens, ready for packed documents (see
    `prepare_language_model`): new, its weights drawn from `seed`, or the one that the settings name.

    Raises:
        ModelError: for a model that can't be found, is no masked language model, is too short or has another
            vocabulary than the tokenizer.
        SettingsError: for a shape that no model can have.

    An `empty` model gets its weights later, from another process (see `hfscale.models.empty`).
    """
    from transformers import AutoModelForMaskedLM

    kind = settings.type or "bert"
    model, _ = _load(settings, AutoModelForMaskedLM, kind, tokenizer, max_length, seed, empty)
    return LanguageModel(model, tokenizer)


def load_causal_model(
    settings: CausalModelSettings,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    seed: int,
    lora: LoraSettings | None = None,
    quant: QuantSettings | None = None,
    empty: bool = False,
    dropout: float | None = None,
) -> LanguageModel:
    """A causal language model; as `load_masked_model`. With `lora` it is frozen under an adapter (see `add_adapter`),
    in the bits of `quant` (see `quantized_options`), and never empty. `dropout` stands in for that of the named
    model's config.

    Raises:
        MissingExtraError: where PEFT or bitsandbytes are needed and not installed.
    """
    from transformers import AutoModelForCausalLM

    kind, empty = settings.type or "gpt2", empty and lora is None
    model, new = _load(settings, AutoModelForCausalLM, kind, tokenizer, max_length, seed, empty, quant, dropout)
    if lora is not None:
        whole = modules_to_save(model, new, train_heads=False)
        model = add_adapter(model, lora, "CAUSAL_LM", note_base(model, settings), settings.revision, whole, seed)
    return LanguageModel(model, tokenizer)


def load_tokenizer(settings: LanguageModelSettings, max_length: int) -> PreTrainedTokenizerBase:
    """The tokenizer that comes with the model which the settings name, for sequences of `max_length` tokens.

    Raises:
        ModelError: where there is none.
    """
    from transformers import AutoTokenizer

    source, where = locate_model(settings)
    with plain_words(f"tokenizer of {settings.name}", "name another with --tokenizer.name"):
        tokenizer = AutoTokenizer.from_pretrained(source, model_max_length=max_length, **where)
    refuse_made_up(tokenizer, str(settings.name))
    ensure_padding(tokenizer)
    return tokenizer


def find_tokenizer(
    model: LanguageModelSettings, tokenizer: TokenizerSettings, train: Dataset, reader: Reader, max_length: int
) -> PreTrainedTokenizerBase:
    """The tokenizer that is named, else the named model's own, else one trained on the column `text` of `train`.

    Raises:
        ModelError, SettingsError, DataError: as `load_tokenizer` and `load_or_train_tokenizer`.
    """
    if model.name and not tokenizer.name:
        return load_tokenizer(model, max_length)
    return load_or_train_tokenizer(tokenizer, train, reader, max_length)


def save_language_model(language_model: LanguageModel, folder: Path, weights: dict[str, Any] | None = None) -> None:
    """Write a plain Hugging Face folder, whole or not at all: safetensors, config and tokenizer. `weights` stand
    in for those of the model where it is sharded."""
    with replacing_folder(folder) as temporary:
        save_weights(language_model.model, temporary, weights)
        language_model.tokenizer.save_pretrained(temporary)


def stop_at(model: PreTrainedModel, token_id: int) -> None:
    """Let `generate` stop at this token, too; the saved model says so."""
    config: Any = model.generation_config
    known = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    config.eos_token_id = [token_id, *(each for each in known if each not in (None, token_id))]


def _load(
    settings: LanguageModelSettings,
    auto: Any,
    kind: str,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    seed: int,
    empty: bool,
    quant: QuantSettings | None = None,
    dropout: float | None = None,
) -> tuple[PreTrainedModel, set[str]]:
    """A model, and the names of the weights that the named one's files don't have."""
    import torch

    torch.manual_seed(seed)
    options = {"attn_implementation": settings.attention, "dtype": torch.float32}
    if settings.name is not None:
        model, new = pretrained_or_empty(settings, auto, options, empty, quant, dropout)
    else:
        model, new = _of_shape(settings, auto, kind, tokenizer, max_length, options, empty), set[str]()
    console.say(f"model      {settings.name or f'new {kind}'}, {model.num_parameters():,} parameters")
    _refuse_misfits(model, tokenizer, max_length, settings.name or f"the new {kind}")
    if settings.name is not None:
        _compare_vocabularies(settings, tokenizer, max_length)
    elif kind not in _WITH_TYPES:  # a trained WordPiece tells texts of a pair apart by types
        names = tokenizer.model_input_names
        tokenizer.model_input_names = [name for name in names if name != "token_type_ids"]
    if empty:
        attach_language_loss(model)
    else:
        with rows_apart(model):
            prepare_language_model(model)
    return model, new


def _of_shape(
    settings: LanguageModelSettings,
    auto: Any,
    kind: str,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    options: dict[str, Any],
    empty: bool,
) -> PreTrainedModel:
    with plain_words(f"a new {kind}", "choose another --model shape"):
        config = new_model_config(settings, kind, tokenizer, max_length)
        if empty:
            return empty_model(lambda: auto.from_config(config, **options))
        return auto.from_config(config, **options)


def pretrained_or_empty(
    settings: LanguageModelSettings,
    auto: Any,
    options: dict[str, Any],
    empty: bool = False,
    quant: QuantSettings | None = None,
    dropout: float | None = None,
) -> tuple[PreTrainedModel, set[str]]:
    """The model that the settings name, of this auto class, and the names of the weights that its files don't have.

    Raises:
        ModelError: as `load_masked_model`.
    """
    from transformers import AutoConfig

    source, where = locate_model(settings)
    asking = asking_hub(f"model {source}") if "revision" in where else contextlib.nullcontext()
    with plain_words(f"model {settings.name}", "give a model folder or a Hub id"), asking:
        config, trust = AutoConfig.from_pretrained(source, **where), settings.trust_remote_code
        refuse_quantized_base(config, str(settings.name))
        if dropout is not None:
            set_dropout(config, dropout)
        if empty:
            return empty_model(lambda: auto.from_config(config, trust_remote_code=trust, **options)), set()
        in_bits = bits_arguments(config, auto, quant, trust)
        options |= {"config": config, **quantized_options(in_bits)}
        model, info = auto.from_pretrained(source, use_safetensors=True, output_loading_info=True, **where, **options)
        note_quantization(model.config, in_bits)
        refuse_quantized_new(model, info["missing_keys"], str(settings.name))
    lacking = sorted(str(name) for name in info["missing_keys"])
    if lacking:
        what = auto.__name__.removeprefix("AutoModelFor")
        console.warn(f"{settings.name} holds no {what} head; drawn at random: {', '.join(lacking[:4])}")
    return model, set(lacking)


def _compare_vocabularies(
    settings: LanguageModelSettings, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> None:
    """Say so where a pretrained model gets another tokenizer than its own: its embeddings then mean other tokens."""
    try:
        own = load_tokenizer(settings, max_length)
    except ModelError:  # a model without a tokenizer needs one
        return
    if own.get_vocab() != tokenizer.get_vocab():
        console.warn(f"{settings.name} was trained with another vocabulary; what it knows of its tokens is lost")


def _refuse_misfits(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int, name: str) -> None:
    embeddings: Any = model.get_input_embeddings()
    rows = embeddings.weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(
            f"the tokenizer has {len(tokenizer):,} tokens, {name} {rows:,}; they don't belong together: name the "
            "model's own with --tokenizer.name, or leave --tokenizer out"
        )
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and model.config.model_type in ("roberta", "xlm-roberta", "camembert"):
        positions -= model.config.pad_token_id + 1
    if positions is not None and max_length > positions:
        raise ModelError(f"--data.max_length {max_length} is more than the {positions} positions of {name}")
