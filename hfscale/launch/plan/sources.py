"""What to plan for: a recipe with its settings, or a model's config."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hfscale import console
from hfscale.config import parse_config
from hfscale.data.sources import looks_like_file
from hfscale.errors import ModelError, SettingsError
from hfscale.launch.plan.workload import Precision, Workload
from hfscale.network import plain_words
from hfscale.schemas import (
    CausalModelSettings,
    ClassifierModelSettings,
    LanguageModelSettings,
    MaskedModelSettings,
    ModelSettings,
    PairSettings,
    Seq2SeqModelSettings,
)

_LONGEST = 4096
"""Tokens per sequence of a bare model that could read more, unless told otherwise."""
_VOCAB_SIZE = 8_000  # of a tokenizer that a recipe trains, unless told otherwise


def model_workload(name: str, objective: str | None, sequence_length: int | None, **settings: Any) -> Workload:
    """The training of a model that is given by its config.

    Args:
        name: a folder, a Hub id, or a `config.json`.
        objective: `causal`, `masked` or a classifier's task; by default what the config's architecture is for.
        settings: further fields of `Workload`.

    Raises:
        ModelError: where there is no such config, or it is shorter than the sequence.
    """
    config = _read_config(name)
    positions = getattr(config, "max_position_embeddings", None)
    if sequence_length and positions and sequence_length > positions:
        raise ModelError(f"--sequence_length {sequence_length} is more than the {positions} positions of {name}")
    found: Any = objective or _objective_of(config)
    if (found == "seq2seq") != _is_seq2seq(config) and found in ("causal", "masked", "seq2seq"):
        kind = "an encoder-decoder" if _is_seq2seq(config) else "no encoder-decoder"
        raise SettingsError(f"--objective {found} does not fit {name}, which is {kind}; leave it out")
    length = sequence_length or min(positions or _LONGEST, _LONGEST)
    return Workload(
        name=_short(name),
        config=config,
        objective=found,
        sequence_length=length,
        target_length=length if found == "seq2seq" else None,
        **settings,
    )


def _short(name: str) -> str:
    path = Path(name)
    return path.parent.name if path.name == "config.json" and path.parent.name else name


def _read_config(name: str, trust_remote_code: bool = False, revision: str | None = None) -> Any:
    from transformers import AutoConfig

    from hfscale.models import rnn  # noqa: F401  (the auto classes know it from then on)
    from hfscale.models.locate import locate_model

    path = Path(name).expanduser()
    if path.is_file():
        source, options = str(path), {}
    else:
        if path.suffix == ".json":
            raise ModelError(f"no such config file: {name}")
        settings = ModelSettings(name=name, revision=revision, trust_remote_code=trust_remote_code)
        source, options = locate_model(settings)
    with plain_words(f"config of {name}", "give a folder, a Hub id or a config.json"):
        return AutoConfig.from_pretrained(source, **options)


def _objective_of(config: Any) -> str:
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

    if _is_seq2seq(config):
        return "seq2seq"
    architecture = str(next(iter(config.architectures or []), ""))
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        return "causal"
    return "masked" if config.model_type in MASKED else "causal"


def _is_seq2seq(config: Any) -> bool:
    return bool(getattr(config, "is_encoder_decoder", False))


def recipe_workload(recipe: Path, words: list[str], default_precision: Precision, num_steps: int | None) -> Workload:
    """The training that a recipe would do with these settings, without doing it.

    Args:
        words: the recipe's command line.
        default_precision: of the launcher, which holds where the settings leave it open.
        num_steps: optimizer steps where the settings give epochs of data that is not here.

    Raises:
        SettingsError: for a file that is no recipe, or settings that it doesn't know.
    """
    config = parse_config(_config_class(recipe), words)
    if isinstance(getattr(config, "model", None), Seq2SeqModelSettings):
        workload = _seq2seq(config)
    elif isinstance(getattr(config, "model", None), LanguageModelSettings):
        workload = _language_model(config)
    elif isinstance(getattr(config, "model", None), ClassifierModelSettings):
        workload = _classifier(config)
    else:
        raise SettingsError(f"{recipe} trains a small network, which fits anywhere; plan knows transformers only")
    if num_steps and workload.num_steps:
        raise SettingsError(f"--steps has no effect: the recipe's settings give {workload.num_steps}; leave it out")
    return dataclasses.replace(
        workload,
        global_batch_size=config.train.global_batch_size,
        micro_batch_size=config.train.micro_batch_size,
        precision=config.train.precision or default_precision,
        optim=config.optim,
        num_steps=workload.num_steps or num_steps,
        frozen="fp32",  # as recipes load them
        **adapter_of(config),
    )


def adapter_of(config: Any) -> dict[str, Any]:
    """`lora` and `bits` of a workload by a recipe's settings."""
    quant = getattr(config, "quant", None)
    return {"lora": getattr(config, "lora", None), "bits": quant.bits if quant else None}


def _config_class(recipe: Path) -> Any:
    if not recipe.is_file() or recipe.suffix != ".py":
        raise SettingsError(f"{recipe} is no recipe: give a recipe's file first, or --model")
    spec = importlib.util.spec_from_file_location(f"hfscale_planned_{recipe.stem}", recipe)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where the types of the settings are looked up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise SettingsError(f"{recipe} can't be read: {type(error).__name__}: {error}") from error
    schema = getattr(module, "Config", None)
    if not dataclasses.is_dataclass(schema):
        raise SettingsError(f"{recipe} is no recipe: it has no dataclass Config")
    return schema


def _language_model(config: Any) -> Workload:
    settings, length = config.model, config.data.max_length
    causal = isinstance(settings, CausalModelSettings)
    assert causal or isinstance(settings, MaskedModelSettings)
    if settings.name:
        model_config = _read_config(settings.name, settings.trust_remote_code, settings.revision)
        name = settings.name
    else:
        model_config, name = _new_model(config, causal, length)
    model_config._attn_implementation = settings.attention
    return Workload(
        name=name,
        config=model_config,
        objective="causal" if causal else "masked",
        # Both answers of a pair stand in one sequence; the reference's pass, without gradients, is not counted.
        sequence_length=2 * length if isinstance(config.data, PairSettings) else length,
        global_batch_size=config.train.global_batch_size,
        num_steps=config.train.max_steps,
        masked_fraction=0.15 if causal else config.mask.fraction,
        trust_remote_code=settings.trust_remote_code,
    )


def _new_model(config: Any, causal: bool, length: int) -> tuple[Any, str]:
    """The config of the model that the recipe would make, and what to call it."""
    from hfscale.models.new_config import new_model_config

    kind = config.model.type or ("gpt2" if causal else "bert")
    return new_model_config(config.model, kind, _tokenizer(config), length), f"new {kind}"


def _seq2seq(config: Any) -> Workload:
    from hfscale.models.seq2seq import new_seq2seq_config, refuse_long_texts

    settings = config.model
    if settings.name:
        model_config = _read_config(settings.name, settings.trust_remote_code, settings.revision)
        if not _is_seq2seq(model_config):
            raise ModelError(f"{settings.name} is no encoder-decoder but a {model_config.model_type}")
    else:
        model_config = new_seq2seq_config(settings, _tokenizer(config), config.data)
    name = settings.name or f"new {model_config.model_type}"
    refuse_long_texts(model_config, config.data, name)
    model_config._attn_implementation = settings.attention
    return Workload(
        name=name,
        config=model_config,
        objective="seq2seq",
        sequence_length=config.data.max_length,
        target_length=config.data.target_length,
        label_smoothing=config.label_smoothing,
        global_batch_size=config.train.global_batch_size,
        num_steps=config.train.max_steps,
        trust_remote_code=settings.trust_remote_code,
    )


def _tokenizer(config: Any) -> Any:
    """As much of the one that the recipe would use as the config of a new model needs."""
    vocab_size = config.tokenizer.vocab_size or _VOCAB_SIZE
    if config.tokenizer.name:
        from transformers import AutoTokenizer

        with plain_words(f"tokenizer {config.tokenizer.name}", "give its folder, or --tokenizer.vocab_size"):
            vocab_size = len(AutoTokenizer.from_pretrained(config.tokenizer.name))
    return _Vocabulary(vocab_size)


class _Vocabulary(SimpleNamespace):
    """In place of a tokenizer that doesn't exist yet."""

    def __init__(self, size: int) -> None:
        super().__init__(size=size, pad_token_id=0, bos_token_id=1, eos_token_id=1)

    def __len__(self) -> int:
        return self.size


def _classifier(config: Any) -> Workload:
    import torch
    from transformers import AutoTokenizer

    from hfscale.launch.plan.architecture import build_model
    from hfscale.models import TextClassifier
    from hfscale.models.heads import set_dropout
    from hfscale.models.locate import locate_model

    settings = config.model
    source, options = locate_model(settings)
    model_config = _read_config(settings.name, settings.trust_remote_code, settings.revision)
    if settings.dropout is not None:
        set_dropout(model_config, settings.dropout)
    num_examples, num_labels = _known_data(config)
    workload = Workload(
        name=settings.name,
        config=model_config,
        objective=config.task,
        sequence_length=1,
        global_batch_size=config.train.global_batch_size,
        num_labels=num_labels,
        trust_remote_code=settings.trust_remote_code,
    )
    with plain_words(f"tokenizer of {settings.name}", "give a model that brings one"):
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
    with torch.device("meta"):
        model = build_model(workload, model_config, torch.float32)
    length = TextClassifier(model, tokenizer).max_length(config.data.max_length)
    steps = config.train.max_steps
    # Long contexts are read in windows, long sentences split: how many examples they make is known when tokenized.
    split = config.task in ("question_answering", "token_classification")
    if steps is None and num_examples is not None and not split:
        from hfscale.training.loop import num_steps

        steps = num_steps(config.train, -(-num_examples // config.train.global_batch_size))
    return dataclasses.replace(workload, sequence_length=length, num_steps=steps)


def _known_data(config: Any) -> tuple[int | None, int]:
    """Training examples and labels where the data is on this machine; a plan downloads none."""
    from hfscale import data

    train = config.data.train
    if not train.startswith("builtin:") and not Path(train).expanduser().exists():
        if looks_like_file(train):
            console.warn(f"{train} is not here: how many examples and labels it holds is not known")
        return None, 2
    splits = data.load_splits(config.data, config.task)
    return len(splits.train), len(data.Labels.of(splits.train, config.task).names) or 1
