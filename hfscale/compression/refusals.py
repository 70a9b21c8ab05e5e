"""What can't be exported, told by a folder's JSON files alone: before anything heavy is imported."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from hfscale.compression.pruning_units import CNN
from hfscale.errors import MissingExtraError, ModelError, SettingsError
from hfscale.models.adapted import adapter_settings
from hfscale.models.adapters import is_adapter
from hfscale.models.heads import is_seq2seq
from hfscale.schemas.export import ExportSettings

EXPORTABLE = (
    "what can be exported are classifiers of texts and words, models that answer questions, language models, "
    "encoder-decoders that write, and the network of train_cnn.py"
)
PRUNABLE = "what can be pruned are classifiers of texts, words and images, and models that answer questions"
_ONNX = ("onnx", "onnxscript", "onnxruntime")


def refuse_export(folder: Path, settings: ExportSettings) -> None:
    """Refuse what the settings can't make of a model folder.

    Raises:
        ModelError: for a folder without a model, quantized already, an adapter that stays one, a trained prompt,
            images for anything but ONNX, or an encoder-decoder for ONNX.
        SettingsError: where there is nothing to merge.
        MissingExtraError: where PEFT, bitsandbytes or ONNX is not installed.
    """
    adapter = is_adapter(folder)
    config = config_of(folder)
    if settings.format == "onnx":
        refuse_seq2seq(folder, "--format onnx writes models of one stack alone; give --bits or --merge")
    refuse_prompt(folder)
    if config.get("model_type") == CNN and settings.format != "onnx":
        given = "--merge" if settings.merge else "--bits"
        raise ModelError(f"{folder} holds a CNN, on which {given} has no effect; it takes --format onnx alone")
    if settings.merge and not adapter:
        raise SettingsError(f"there is no adapter in {folder}, so that --merge has nothing to do; leave it out")
    if adapter and not settings.merge:
        alone = "--format onnx can't write" if settings.format == "onnx" else "--bits can't quantize"
        raise ModelError(f"{folder} holds an adapter, which {alone} alone; add --merge")
    if not adapter and config.get("quantization_config") is not None:
        raise ModelError(
            f"{folder} holds its weights in few bits already; export the full-precision model it was made from"
        )
    if adapter and importlib.util.find_spec("peft") is None:
        raise MissingExtraError("adapters need PEFT: pip install 'hfscale[peft]'")
    if settings.bits in (4, 8) and importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError("quantization needs bitsandbytes: pip install 'hfscale[quant]'")
    for package in _ONNX if settings.format == "onnx" else ():
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(f"--format onnx needs {package}: pip install 'hfscale[onnx]'")


def refuse_seq2seq(folder: Path, others: str) -> None:
    """Refuse an encoder-decoder that writes, or an adapter on one; `others` says what isn't.

    Raises:
        ModelError: for such a folder.
    """
    if is_seq2seq(folder):
        name = config_of(folder)["architectures"][0]
        raise ModelError(f"{folder} holds an encoder-decoder ({name}); {others}")


def refuse_prompt(folder: Path) -> None:
    """Refuse an adapter that is a trained prompt: it stands before a model's input, and in none of its weights.

    Raises:
        ModelError: for such a folder.
    """
    if is_adapter(folder) and adapter_settings(folder).get("peft_type") == "PROMPT_TUNING":
        raise ModelError(
            f"{folder} holds a trained prompt, which can't be merged into weights; load it with PEFT, as its "
            "README.md says"
        )


def config_of(folder: Path) -> dict[str, Any]:
    """A model folder's `config.json`.

    Raises:
        ModelError: where there is none, or it can't be read.
    """
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except OSError:
        lacks = "; PEFT's own adapters have none: copy that of the model" if is_adapter(folder) else ""
        raise ModelError(f"{folder} holds no model (no config.json){lacks}") from None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ModelError(f"{folder}/config.json can't be read")
    return found
