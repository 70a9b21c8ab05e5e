"""Text classifiers by Hub id, folder or `builtin:` name."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from safetensors import SafetensorError

from hfscale import console
from hfscale.errors import ModelError
from hfscale.files import replacing_folder
from hfscale.models.builtin import find_builtin
from hfscale.models.first_token import read_first_token_only
from hfscale.network import asking_hub
from hfscale.schemas import ModelSettings, ProblemType

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_NO_LIMIT = 1_000_000  # tokenizers without a limit say 10**30
_FALLBACK_LENGTH = 512


class TextClassifier(NamedTuple):
    """A model with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

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
            return limit if limit < _NO_LIMIT else _FALLBACK_LENGTH
        if wanted > positions:
            raise ModelError(f"--data.max_length {wanted} is more than the model's {positions} positions")
        return wanted


def load_text_classifier(
    settings: ModelSettings, problem_type: ProblemType, label_names: Sequence[str], seed: int
) -> TextClassifier:
    """Load any encoder that `AutoModelForSequenceClassification` knows, in float32, with a head for these labels.

    A classifier's head for other labels is replaced by one drawn from `seed`.

    Raises:
        ModelError: for a model that can't be found, has no such head, or whose vocabulary doesn't fit its tokenizer.
        MissingExtraError: for a `builtin:` model whose package is not installed.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    source, options = _locate(settings)
    asking = asking_hub(f"model {source}") if "revision" in options else contextlib.nullcontext()
    with _plain_words(settings.name), asking:
        config = AutoConfig.from_pretrained(source, **options)
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        had = [str(label) for _, label in sorted((config.id2label or {}).items())]
        was_classifier = any("ForSequenceClassification" in name for name in config.architectures or [])
        config.problem_type = problem_type
        config.id2label = dict(enumerate(label_names))
        config.label2id = {name: number for number, name in enumerate(label_names)}
        torch.manual_seed(seed)
        model, info = AutoModelForSequenceClassification.from_pretrained(
            source,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **options,
        )
    _refuse_made_up(tokenizer, settings.name)
    new = {str(key) for key in info["missing_keys"]} | {str(key[0]) for key in info["mismatched_keys"]}
    if was_classifier and had != list(label_names):
        new |= _draw_head(model)
    _prepare_padding(model, tokenizer)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise ModelError(
            f"{settings.name}: the tokenizer has {len(tokenizer):,} tokens, the model "
            f"{model.get_input_embeddings().num_embeddings:,}; they don't belong together"
        )
    _say_what_is_new(model, new, settings.name)
    read_first_token_only(model)
    return TextClassifier(model, tokenizer)


def save_text_classifier(classifier: TextClassifier, folder: Path) -> None:
    """Write a plain Hugging Face folder, whole or not at all: safetensors, config and tokenizer."""
    with replacing_folder(folder) as temporary:
        classifier.model.save_pretrained(temporary)
        classifier.tokenizer.save_pretrained(temporary)


def saved_text_classifier(folder: Path, trust_remote_code: bool = False) -> TextClassifier:
    """Load a model folder that a run wrote, labels and head included, ready to predict.

    Raises:
        ModelError: where the folder doesn't hold such a model.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} holds no model (no config.json)")
    with _plain_words(str(folder)):
        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, trust_remote_code=trust_remote_code
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    lacking = sorted(str(name) for name in info["missing_keys"])
    if lacking:
        raise ModelError(f"{folder} holds no trained classifier: {', '.join(lacking[:4])} are not in its weights")
    _refuse_made_up(tokenizer, str(folder))
    read_first_token_only(model)
    return TextClassifier(model.eval(), tokenizer)


def _locate(settings: ModelSettings) -> tuple[str, dict[str, Any]]:
    """What `from_pretrained` takes: a folder or Hub id, and its options."""
    options: dict[str, Any] = {"trust_remote_code": settings.trust_remote_code}
    if settings.name.startswith("builtin:"):
        if settings.revision:
            raise ModelError(f"--model.revision has no effect on {settings.name}; leave it out")
        return str(find_builtin(settings.name.removeprefix("builtin:"))), options
    path = Path(settings.name).expanduser()
    if path.is_dir():
        if settings.revision:
            raise ModelError("--model.revision has no effect on a local folder; leave it out")
        model = path / "model" if (path / "model" / "config.json").is_file() else path  # a run folder
        if not (model / "config.json").is_file():
            raise ModelError(f"folder {settings.name} holds no model (no config.json)")
        return str(model), options
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", settings.name):
        raise ModelError(f"no such model folder: {settings.name}")
    return settings.name, {**options, "revision": settings.revision}


class _plain_words:
    """Turn what transformers raises for a model that can't be had into one line, and keep its own reports quiet."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        from transformers.utils import logging

        self._verbosity = logging.get_verbosity()
        logging.set_verbosity_error()
        logging.disable_progress_bar()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        from transformers.utils import logging

        logging.set_verbosity(self._verbosity)
        if kind is not None and issubclass(kind, (OSError, ValueError, KeyError, ImportError, SafetensorError)):
            text = str(error)
            reason = text.strip().splitlines()[0] if text.strip() else kind.__name__
            if issubclass(kind, SafetensorError):
                reason = f"its weights are broken ({reason})"
            elif "safetensors" in text:
                reason = "it has no safetensors weights, and pickled ones are not loaded"
            elif "connect" in text or "offline" in text.lower():
                reason = "the Hub can't be reached and there is no cached copy"
            raise ModelError(
                f"can't load model {self._name}: {reason}; give a model folder, a Hub id (private ones need "
                "`hf auth login`), or builtin:minilm"
            ) from None


def _prepare_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Decoders often come without a padding token, and classify at the last token that isn't one."""
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ModelError(f"{tokenizer.name_or_path}: the tokenizer has neither a padding nor an end token")
        tokenizer.pad_token = tokenizer.eos_token
        console.warn(f"the tokenizer has no padding token; {tokenizer.eos_token} serves as one")
    model.config.pad_token_id = tokenizer.pad_token_id


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


def _refuse_made_up(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """transformers makes up a tokenizer of special tokens alone where a model comes without one."""
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ModelError(f"{name} comes without a tokenizer; put its files (tokenizer.json, ...) beside the weights")


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
