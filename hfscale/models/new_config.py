"""The configs of new language models, by the few numbers that a recipe asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hfscale.errors import SettingsError
from hfscale.schemas import LanguageModelSettings

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

_ROTARY = ("modernbert", "llama", "qwen3")
_HIDDEN_SIZE, _NUM_LAYERS, _HEAD_SIZE = 256, 4, 64


def new_model_config(
    settings: LanguageModelSettings, kind: str, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> PreTrainedConfig:
    """The config of a new model of this kind, of the settings' shape, for sequences of `max_length` tokens.

    Raises:
        SettingsError: for a shape that no model can have.
    """
    from transformers import AutoConfig

    hidden = settings.hidden_size or _HIDDEN_SIZE
    heads = settings.num_heads or max(1, hidden // _HEAD_SIZE)
    _refuse_shape(kind, hidden, heads, getattr(settings, "num_kv_heads", None) or heads)
    common = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "num_hidden_layers": settings.num_layers or _NUM_LAYERS,
        "num_attention_heads": heads,
        "intermediate_size": settings.intermediate_size or 4 * hidden,
        "max_position_embeddings": max_length,
        **{f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")},
    }
    return AutoConfig.for_model(kind, **common | _SPECIAL[kind](settings, common))


def _refuse_shape(kind: str, hidden: int, heads: int, kv_heads: int) -> None:
    if hidden % heads:
        raise SettingsError(f"--model.hidden_size {hidden} is not a multiple of --model.num_heads {heads}")
    if heads % kv_heads:
        raise SettingsError(f"--model.num_heads {heads} is not a multiple of --model.num_kv_heads {kv_heads}")
    if kind in _ROTARY and hidden // heads % 2:
        raise SettingsError(
            f"--model.hidden_size {hidden} over --model.num_heads {heads} gives heads of {hidden // heads}, an odd "
            f"number, which the rotary positions of a {kind} can't have"
        )


def _bert(settings: Any, common: dict[str, Any]) -> dict[str, Any]:
    dropout = settings.dropout or 0.0
    return {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}


def _roberta(settings: Any, common: dict[str, Any]) -> dict[str, Any]:
    positions = common["max_position_embeddings"] + common["pad_token_id"] + 1  # they start behind the padding's
    return {**_bert(settings, common), "max_position_embeddings": positions, "type_vocab_size": 1}


def _electra(settings: Any, common: dict[str, Any]) -> dict[str, Any]:
    return {**_bert(settings, common), "embedding_size": min(128, common["hidden_size"])}


def _modernbert(settings: Any, common: dict[str, Any]) -> dict[str, Any]:
    dropout = settings.dropout or 0.0
    shape = {f"{part}_dropout": dropout for part in ("attention", "embedding", "mlp")}
    # A classifier on top reads the mean of all states: masked language modelling teaches the first one nothing.
    return {**shape, "cls_token_id": None, "sep_token_id": None, "classifier_pooling": "mean"}


def _gpt2(settings: Any, common: dict[str, Any]) -> dict[str, Any]:
    dropout = settings.dropout or 0.0
    return {
        "resid_pdrop": dropout,
        "embd_pdrop": dropout,
        "attn_pdrop": dropout,
        "n_inner": common["intermediate_size"],
        "activation_function": "gelu_pytorch_tanh",  # the same function as gelu_new, in one pass over memory
    }


def _llama(settings: Any, common: dict[str, Any]) -> dict[str, Any]:
    return {
        "num_key_value_heads": settings.num_kv_heads or common["num_attention_heads"],
        "head_dim": common["hidden_size"] // common["num_attention_heads"],
        "attention_dropout": settings.dropout or 0.0,
        "tie_word_embeddings": common["hidden_size"] < 2048,  # as the small models of both families are
    }


_SPECIAL: dict[str, Callable[[Any, dict[str, Any]], dict[str, Any]]] = {
    "bert": _bert,
    "roberta": _roberta,
    "electra": _electra,
    "modernbert": _modernbert,
    "gpt2": _gpt2,
    "llama": _llama,
    "qwen3": _llama,
}
"""What each architecture names in its own way."""
