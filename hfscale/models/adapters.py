"""Adapters: a frozen model with few trained weights beside it (PEFT).

The folder of a trained adapter is PEFT's own (`adapter_config.json`, `adapter_model.safetensors`), with the head, the
tokenizer, and a `config.json` that has the names of the labels.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfscale import console
from hfscale.errors import MissingExtraError, ModelError, SettingsError, did_you_mean
from hfscale.models.builtin import origin_of
from hfscale.models.heads import heads_of
from hfscale.models.quantization import moved_scales, num_bytes, num_weights, quieten_bitsandbytes, save_config
from hfscale.schemas import LoraSettings, ModelSettings, num_soft_tokens

if TYPE_CHECKING:
    from torch import nn

_RANK = 8
_VALUES_OF_KEYS = {"k_proj": "v_proj", "key": "value", "k": "v", "k_lin": "v_lin"}
_SECOND_LAYERS = ("fc2", "wo", "down_proj", "lin2", "ffn_output", "output.dense")
"""Names of what makes values, by that of what makes keys, and of the second layer of a feed-forward block, in the
architectures of transformers."""


def is_adapter(folder: Path) -> bool:
    """Whether a model folder holds an adapter, which needs the model it was trained on."""
    return (folder / "adapter_config.json").is_file()


def add_adapter(
    model: Any,
    settings: LoraSettings,
    task_type: str,
    base: str,
    revision: str | None,
    whole: Collection[str],
    seed: int,
) -> Any:
    """`model` frozen, with an adapter drawn from `seed`.

    Args:
        task_type: as PEFT calls it; a prompt needs a language model's, `CAUSAL_LM`.
        base: the model's public name, with `revision`, for who loads the adapter.
        whole: names of modules that are trained as a whole (see `modules_to_save`).

    Raises:
        MissingExtraError: where PEFT is not installed.
        ModelError: where the model has none of the layers that are to be adapted, or can't take a prompt.
        SettingsError: for an unknown layer, or a rank that no layer can have.
    """
    import torch

    from hfscale.models.soft_tokens import read_soft_tokens

    peft = require_peft()
    torch.manual_seed(seed)
    without = [*whole, *heads_of(model)]
    config = adapter_config(model, settings, without, modules_to_save=list(whole) or None, task_type=task_type)
    _refuse_high_rank(linear_layers(model), config)
    with warnings.catch_warnings():  # PEFT tells of what it settles by itself, as the layout of GPT-2's weights
        warnings.simplefilter("ignore")
        try:
            adapted = peft.get_peft_model(model, config)
        except (ValueError, AttributeError) as error:
            raise ModelError(f"--lora.method {settings.method} does not fit this model: {error}") from None
    adapted.peft_config["default"].base_model_name_or_path = base
    adapted.peft_config["default"].revision = revision
    if settings.method == "prompt":
        read_soft_tokens(adapted)
    else:  # PEFT has added those of other architectures
        adapted.peft_config["default"].modules_to_save = list(whole) or None
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    everything = list(adapted.parameters())
    held = _bytes(everything) + moved_scales(adapted)
    console.say(
        f"adapter    {settings.method}, {_count(trained):,} of {_count(everything):,} parameters trained "
        f"({_count(trained) / _count(everything):.2%}): {_bytes(trained) / 2**20:,.2f} of "
        f"{held / 2**20:,.2f} MiB{'; whole: ' if whole else ''}{', '.join(whole)}"
    )
    return adapted


def save_weights(model: Any, folder: Path, weights: dict[str, Any] | None = None) -> None:
    """Write a model's or an adapter's own files into a folder that is there; `weights` stand in for those of the model
    where it is sharded."""
    if not hasattr(model, "peft_config"):
        model.save_pretrained(folder, state_dict=weights)
        return
    base = model.get_base_model()
    save_config(base, folder)  # PEFT writes none: names of labels, bits
    if getattr(base, "generation_config", None) is not None:
        base.generation_config.save_pretrained(folder)  # where an answer ends
    # With "auto" PEFT would ask the Hub for the base, to find out whether its embeddings have grown.
    model.save_pretrained(folder, state_dict=weights, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # an empty form, which PEFT writes


def note_base(model: Any, settings: ModelSettings) -> str:
    """What an adapter's folder calls its base, for anyone: the Hub id; of a local folder its name alone, and then the
    model's config notes that it is one."""
    if settings.name.startswith("builtin:") or not Path(settings.name).expanduser().is_dir():
        return origin_of(settings.name)
    model.config.hfscale_local_base = Path(settings.name).expanduser().resolve().name
    return model.config.hfscale_local_base


def base_of(folder: Path) -> ModelSettings:
    """The model on the Hub that an adapter was trained on.

    Raises:
        ModelError: where the adapter doesn't say, or it was a folder on some machine.
    """
    try:
        content = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        base = ModelSettings(name=str(content["base_model_name_or_path"]), revision=content.get("revision"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(f"{folder}/adapter_config.json does not say which model the adapter belongs to") from None
    if "hfscale_local_base" in config:
        raise ModelError(
            f"{folder} holds an adapter for a model in a local folder {base.name}; give that folder with --base"
        )
    return base


def linear_layers(model: nn.Module, without: Collection[str] = ()) -> dict[str, tuple[int, int]]:
    """(inputs, outputs) of all linear layers by name, but for those inside of the modules `without`."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    found = {}
    for name, module in model.named_modules():
        if any(name == other or name.startswith(f"{other}.") for other in without):
            continue
        if isinstance(module, nn.Linear):  # those of bitsandbytes are, too
            found[name] = (module.in_features, module.out_features)
        elif isinstance(module, Conv1D):
            found[name] = (module.nx, module.nf)
    return found


def modules_to_save(model: Any, new: Collection[str], train_heads: bool = True) -> list[str]:
    """What is trained whole beside an adapter: heads, and whatever has just been drawn. Nobody could load frozen
    weights that are random.

    Args:
        new: names of parameters that were drawn.
        train_heads: false for a language model, whose output layer is no new head.
    """
    heads = heads_of(model) if train_heads else []
    drawn = {name.rpartition(".")[0] for name in new}
    return heads + sorted(name for name in drawn if not any(f"{name}.".startswith(f"{head}.") for head in heads))


def adapter_config(model: Any, settings: LoraSettings, without: Collection[str], **options: Any) -> Any:
    """PEFT's config of an adapter beside the linear layers of `model`, but for those inside of the modules `without`;
    or of a prompt, which begins as rows of the input embedding, drawn with repetition: Lester et al. 2021 found these
    far better than random numbers.

    Args:
        options: further arguments of PEFT's config.

    Raises:
        MissingExtraError, ModelError, SettingsError: as `add_adapter` does.
    """
    peft = require_peft()
    if settings.method == "ia3":
        return peft.IA3Config(**_ia3_targets(model, without), **options)
    if settings.method == "prompt":
        if options.pop("modules_to_save"):
            raise ModelError("this model lacks weights, which a prompt can't stand in for; take lora, rslora or dora")
        return peft.PromptTuningConfig(
            num_virtual_tokens=num_soft_tokens(settings), prompt_tuning_init="SAMPLE_VOCAB", **options
        )
    rank = settings.r or _RANK
    return peft.LoraConfig(
        r=rank,
        lora_alpha=settings.alpha or 2 * rank,
        lora_dropout=settings.dropout or 0.0,
        target_modules=_targets(linear_layers(model, without), settings),
        use_rslora=settings.method == "rslora",
        use_dora=settings.method == "dora",
        init_lora_weights="pissa" if settings.method == "pissa" else True,
        **options,
    )


def _ia3_targets(model: Any, without: Collection[str]) -> dict[str, list[str]]:
    """Arguments of PEFT's `IA3Config`: none where PEFT knows the architecture, else the layers of Liu et al. 2022:
    keys, values, and the second one of each feed-forward block, of which the inputs are scaled."""
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as KNOWN

    kind = model.config.model_type
    if kind in KNOWN:
        return {}
    layers = linear_layers(model, without)
    pairs = [(f"{name}.{keys}".lstrip("."), f"{name}.{values}".lstrip(".")) for name, _ in model.named_modules()
             for keys, values in _VALUES_OF_KEYS.items()]  # fmt: skip
    attention = [name for pair in pairs if all(each in layers for each in pair) for name in pair]
    second = [name for name in layers if name.endswith(tuple(f".{each}" for each in _SECOND_LAYERS))]
    feed_forward = [name for name in second if not name.endswith("attention.output.dense")]
    if not attention or not feed_forward:
        raise ModelError(
            f"--lora.method ia3: which layers of a {kind} make keys, values and the feed-forward output is not known; "
            "take --lora.method lora"
        )
    return {"target_modules": attention + feed_forward, "feedforward_modules": feed_forward}


def _targets(layers: dict[str, tuple[int, int]], settings: LoraSettings) -> list[str]:
    """Full names of the layers that get an adapter."""
    if not layers:
        raise ModelError("this model has no linear layer that an adapter could stand beside; leave out --lora")
    kinds = sorted({_kind(name) for name in layers})
    for target in settings.targets or []:
        if not any(_is_target(name, target, kinds) for name in layers):
            hint = did_you_mean(target, (kind.rpartition(".")[2] for kind in kinds))
            raise SettingsError(
                f"--lora.targets: there is no linear layer {target}{hint}; there are {', '.join(kinds)}"
            )
    wanted = settings.targets or list(layers)
    return [name for name in layers if any(_is_target(name, target, kinds) for target in wanted)]


def _is_target(name: str, target: str, kinds: Collection[str]) -> bool:
    """Whether a layer is meant: by its kind where that is one, else by its name or the last part of it."""
    if target in kinds:
        return _kind(name) == target
    return name == target or name.endswith(f".{target}")


def _refuse_high_rank(layers: dict[str, tuple[int, int]], config: Any) -> None:
    """Matrices of a higher rank than the layer's own would only cost memory."""
    rank = getattr(config, "r", 0)  # of IA3 and prompts there is none
    too_small = next((name for name in layers if rank > min(layers[name]) and name in config.target_modules), None)
    if too_small is not None:
        inputs, outputs = layers[too_small]
        raise SettingsError(
            f"--lora.r {rank} is more than layer {too_small} can have, {min(inputs, outputs)} ({inputs} x {outputs}); "
            "take less"
        )


def _kind(name: str) -> str:
    """A layer's name from behind its number on."""
    parts = name.split(".")
    numbers = [place for place, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[numbers[-1] + 1 :]) if numbers else name


def require_peft() -> Any:
    """The package.

    Raises:
        MissingExtraError: where it is not installed.
    """
    quieten_bitsandbytes()
    try:
        import peft
    except ImportError:
        raise MissingExtraError("adapters need PEFT: pip install 'hfscale[peft]'") from None
    return peft


def _count(parameters: list[Any]) -> int:
    return sum(map(num_weights, parameters))


def _bytes(parameters: list[Any]) -> int:
    return sum(map(num_bytes, parameters))
