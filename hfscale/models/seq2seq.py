"""Encoder-decoders: of a given shape with random weights, or one to go on from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfscale import console
from hfscale.data.vocabulary import load_or_train_tokenizer
from hfscale.errors import ModelError, SettingsError
from hfscale.models.adapted import adapted_model
from hfscale.models.adapters import add_adapter, base_of, is_adapter, modules_to_save, note_base
from hfscale.models.empty import empty_model
from hfscale.models.language import LanguageModel, load_tokenizer, pretrained_or_empty
from hfscale.models.quantization import is_quantized, noted_quantization, require_bitsandbytes
from hfscale.network import plain_words
from hfscale.schemas import (
    GenerationSettings,
    LoraSettings,
    ModelSettings,
    QuantSettings,
    Seq2SeqModelSettings,
    TextPairSettings,
    TokenizerSettings,
)

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

_TOKEN_IDS = (
    *("decoder_start_token_id", "eos_token_id", "pad_token_id", "bos_token_id"),
    *("forced_bos_token_id", "forced_eos_token_id", "bad_words_ids"),
)
_HIDDEN_SIZE, _NUM_LAYERS, _HEAD_SIZE, _DROPOUT = 256, 3, 64, 0.1


def find_seq2seq_tokenizer(
    model: Seq2SeqModelSettings, tokenizer: TokenizerSettings, train: Dataset, max_length: int
) -> PreTrainedTokenizerBase:
    """The named tokenizer, else the named model's, else one trained on both texts of the pairs.

    Raises:
        ModelError, SettingsError, DataError: as `load_tokenizer` and `load_or_train_tokenizer`.
    """
    if model.name and not tokenizer.name:
        return load_tokenizer(model, max_length)
    return load_or_train_tokenizer(tokenizer, train, "seq2seq", max_length)


def load_seq2seq_model(
    settings: Seq2SeqModelSettings,
    tokenizer: PreTrainedTokenizerBase,
    data: TextPairSettings,
    seed: int,
    lora: LoraSettings | None = None,
    quant: QuantSettings | None = None,
    empty: bool = False,
) -> LanguageModel:
    """An encoder-decoder in float32: new, its weights drawn from `seed`, or the one that the settings name; with
    `lora` frozen under an adapter (see `add_adapter`), in the bits of `quant`, and never empty.

    An `empty` model gets its weights later, from another process (see `hfscale.models.empty`).

    Raises:
        MissingExtraError: where PEFT or bitsandbytes are needed and not installed.
        ModelError: for a model that can't be found, is no encoder-decoder, or has fewer positions or another
            vocabulary than needed.
        SettingsError: for a shape that no model can have.
    """
    import torch
    from transformers import AutoModelForSeq2SeqLM

    torch.manual_seed(seed)
    options = {"attn_implementation": settings.attention, "dtype": torch.float32}
    empty = empty and lora is None
    if settings.name is not None:
        model, new = pretrained_or_empty(settings, AutoModelForSeq2SeqLM, options, empty, quant)
    else:
        model, new = _of_shape(settings, tokenizer, data, options, empty), set[str]()
    kind = settings.name or f"new {settings.type or 'marian'}"
    _refuse_strange_ends(model, tokenizer, kind)
    console.say(f"model      {kind}, {model.num_parameters():,} parameters")
    _refuse_misfits(model, tokenizer, data, kind)
    if lora is not None:
        whole = modules_to_save(model, new, train_heads=False)
        base = note_base(model, settings)
        model = add_adapter(model, lora, "SEQ_2_SEQ_LM", base, settings.revision, whole, seed)
    return LanguageModel(model, tokenizer)


def write_as(model: Any, generation: GenerationSettings, max_length: int) -> None:
    """Let `generate` write as the settings say, up to so many tokens, and in no other way that a base was made for (a
    least length, say, or no repeated words); the saved model does, too."""
    from transformers import GenerationConfig

    base, before = model.config, model.generation_config
    ids = {name: getattr(before, name, None) or getattr(base, name, None) for name in _TOKEN_IDS}
    model.generation_config = GenerationConfig(
        **{**ids, **{name: getattr(base, name, None) for name in _TOKEN_IDS if ids[name] is None}},
        num_beams=generation.num_beams,
        length_penalty=generation.length_penalty,
        max_length=max_length + 1,  # the start token counts
    )
    if hasattr(model, "get_base_model"):  # an adapter's wrapper hands the question on
        model.get_base_model().generation_config = model.generation_config


def saved_seq2seq_model(folder: Path, trust_remote_code: bool, base: ModelSettings | None = None) -> LanguageModel:
    """The encoder-decoder in a model folder, in evaluation mode; with an adapter on its base, by default the one that
    it names.

    Raises:
        ModelError: where the folder doesn't hold one.
    """
    from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer

    with plain_words(f"model {folder}", "give a run folder or a model folder", "--trust_remote_code"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
        if is_adapter(folder):
            bits = noted_quantization(config)
            model = adapted_model(folder, config, AutoModelForSeq2SeqLM, base or base_of(folder), bits)
            return LanguageModel(model, tokenizer)
        if is_quantized(config):
            require_bitsandbytes()
        model, info = AutoModelForSeq2SeqLM.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, trust_remote_code=trust_remote_code
        )
    if info["missing_keys"]:
        lacking = ", ".join(sorted(map(str, info["missing_keys"]))[:4])
        raise ModelError(f"{folder} holds no whole model: {lacking} are not in its weights")
    return LanguageModel(model.eval(), tokenizer)


def new_seq2seq_config(settings: Seq2SeqModelSettings, tokenizer: Any, data: TextPairSettings) -> Any:
    """The config of a new encoder-decoder of the settings' shape, for texts as long as those of `data` may be.

    Raises:
        SettingsError: for a shape that no model can have.
    """
    from transformers import AutoConfig

    kind = settings.type or "marian"
    hidden = settings.hidden_size or _HIDDEN_SIZE
    heads = settings.num_heads or max(1, hidden // _HEAD_SIZE)
    if hidden % heads:
        raise SettingsError(f"--model.hidden_size {hidden} is not a multiple of --model.num_heads {heads}")
    if kind == "marian" and hidden % 2:
        raise SettingsError(f"--model.hidden_size {hidden} is odd, which a marian's positions can't be")
    layers, inner = settings.num_layers or _NUM_LAYERS, settings.intermediate_size or 4 * hidden
    dropout = _DROPOUT if settings.dropout is None else settings.dropout
    return AutoConfig.for_model(
        kind,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        **_SHAPES[kind](hidden, layers, heads, inner, dropout, _positions(data), tokenizer),
    )


def _of_shape(
    settings: Seq2SeqModelSettings, tokenizer: Any, data: TextPairSettings, options: dict[str, Any], empty: bool
) -> Any:
    from transformers import AutoModelForSeq2SeqLM

    config = new_seq2seq_config(settings, tokenizer, data)
    with plain_words(f"a new {config.model_type}", "choose another --model shape"):
        if empty:
            return empty_model(lambda: AutoModelForSeq2SeqLM.from_config(config, **options))
        return AutoModelForSeq2SeqLM.from_config(config, **options)


def _positions(data: TextPairSettings) -> int:
    """As many as the longer side has tokens; batches on a GPU are padded to a multiple of 8."""
    return -(-max(data.max_length, data.target_length) // 8) * 8


def _t5(hidden: int, layers: int, heads: int, inner: int, dropout: float, length: int, tokenizer: Any) -> Any:
    """T5 1.1 (Shazeer 2020, "GLU Variants Improve Transformer"), but with tied embeddings."""
    return {
        "d_model": hidden,
        "num_layers": layers,
        "num_decoder_layers": layers,
        "num_heads": heads,
        "d_kv": hidden // heads,
        "d_ff": inner,
        "dropout_rate": dropout,
        "feed_forward_proj": "gated-gelu",
        "decoder_start_token_id": tokenizer.pad_token_id,
    }


def _bart(hidden: int, layers: int, heads: int, inner: int, dropout: float, length: int, tokenizer: Any) -> Any:
    return {
        "d_model": hidden,
        "dropout": dropout,
        "attention_dropout": dropout,
        "max_position_embeddings": length,
        "decoder_start_token_id": tokenizer.eos_token_id,
        "forced_eos_token_id": None,
        **{f"{side}_layers": layers for side in ("encoder", "decoder")},
        **{f"{side}_attention_heads": heads for side in ("encoder", "decoder")},
        **{f"{side}_ffn_dim": inner for side in ("encoder", "decoder")},
    }


def _marian(hidden: int, layers: int, heads: int, inner: int, dropout: float, length: int, tokenizer: Any) -> Any:
    """The Transformer of Vaswani et al. 2017: sinusoidal positions, embeddings scaled by the root of the width."""
    shape = _bart(hidden, layers, heads, inner, dropout, length, tokenizer)
    return {
        **shape,
        "decoder_start_token_id": tokenizer.pad_token_id,
        "activation_function": "relu",
        "scale_embedding": True,
    }


_SHAPES: dict[str, Callable[..., dict[str, Any]]] = {"marian": _marian, "t5": _t5, "bart": _bart}


def _refuse_strange_ends(model: Any, tokenizer: Any, name: str) -> None:
    """What is written begins with the model's start token, and has to end with the tokenizer's."""
    config = model.config
    if config.decoder_start_token_id is None or config.pad_token_id is None:
        raise ModelError(f"{name} does not say with which token a text to write starts, or which one is padding")
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    if tokenizer.eos_token_id not in ends or tokenizer.pad_token_id != config.pad_token_id:
        raise ModelError(f"the tokenizer has another end or padding token than {name}; leave out --tokenizer.name")


def _refuse_misfits(model: Any, tokenizer: Any, data: TextPairSettings, name: str) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(
            f"the tokenizer has {len(tokenizer):,} tokens, {name} {rows:,}; they don't belong together: leave "
            "--tokenizer out"
        )
    refuse_long_texts(model.config, data, name)


def refuse_long_texts(config: Any, data: TextPairSettings, name: str) -> None:
    """Raises: ModelError: where texts may be longer than the model has positions."""
    positions = getattr(config, "max_position_embeddings", None)
    for flag, length in (("max_length", data.max_length), ("max_target_length", data.target_length)):
        if positions is not None and length > positions:
            raise ModelError(f"--data.{flag} {length} is more than the {positions} positions of {name}")
