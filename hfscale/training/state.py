"""The tensors and random generators that decide how training goes on, by name, and putting them back."""

from __future__ import annotations

import base64
import random
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn
    from torch.optim import Optimizer

Scalars = dict[str, dict[str, Any]]
"""What an optimizer keeps beside tensors: weight -> key -> number or None."""


def parameters_of(model: nn.Module) -> dict[str, Tensor]:
    """Trained weights by name; those that are tied once. Frozen ones are as they were loaded, at any step."""
    return {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}


def is_adapted(model: nn.Module) -> bool:
    """Whether the model is frozen under an adapter of PEFT's."""
    return hasattr(model, "peft_config")


def adapter_names(model: nn.Module) -> dict[str, str]:
    """Name in the file that PEFT writes -> name of the trained weight."""

    def in_file(name: str) -> str:
        if name == "prompt_encoder.default.embedding.weight":
            return "prompt_embeddings"
        name = name.replace(".modules_to_save.default.", ".")
        name = name.replace(".lora_magnitude_vector.default.weight", ".lora_magnitude_vector")
        return name.replace(".default.", ".").removesuffix(".default")

    return {in_file(name): name for name in parameters_of(model)}


def buffers_of(model: nn.Module) -> dict[str, Tensor]:
    """What a model's own files hold beside weights (means of batch norm, say); a forward pass may change it."""
    saved = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name in saved}


def optimizer_state(model: nn.Module, optimizer: Optimizer) -> tuple[dict[str, Tensor], Scalars]:
    """Tensors as `KEY:WEIGHT`, and what is none."""
    tensors: dict[str, Tensor] = {}
    scalars: Scalars = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                shared = key.startswith("qmap")  # by all weights with an 8-bit state; safetensors takes no such thing
                tensors[f"{key}:{name}"] = value.detach().clone() if shared else value.detach()
            else:
                scalars.setdefault(name, {})[key] = value
    return tensors, scalars


def load_tensors(target: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into those of the same names.

    Raises:
        ValueError: naming what one side lacks or has in another shape; nothing is changed then.
    """
    differing = sorted(target.keys() ^ tensors.keys())
    differing += [name for name in target.keys() & tensors.keys() if target[name].shape != tensors[name].shape]
    if differing:
        raise ValueError(", ".join(differing[:4]) + (" ..." if len(differing) > 4 else ""))
    with torch.no_grad():
        for name, tensor in tensors.items():
            target[name].copy_(tensor)


def load_optimizer_state(
    model: nn.Module, optimizer: Optimizer, tensors: Mapping[str, Tensor], scalars: Scalars
) -> None:
    """Give every weight its state back. The settings of the groups (decay, betas) stay as they are."""
    weights = dict(model.named_parameters())
    by_weight: dict[str, dict[str, Any]] = {name: dict(values) for name, values in scalars.items()}
    for full, tensor in tensors.items():
        key, name = full.split(":", 1)
        same = tensor.shape == weights[name].shape
        # In the weight's own order in memory, as the optimizer would have made it.
        held = torch.empty_like(weights[name] if same else tensor, dtype=tensor.dtype)
        by_weight.setdefault(name, {})[key] = held.copy_(tensor)
    content = optimizer.state_dict()
    names = {id(weight): name for name, weight in weights.items()}
    for group, saved in zip(optimizer.param_groups, content["param_groups"], strict=True):
        for weight, number in zip(group["params"], saved["params"], strict=True):
            if names[id(weight)] in by_weight:
                content["state"][number] = by_weight[names[id(weight)]]
    optimizer.load_state_dict(content)


def num_elements(parameter: Tensor) -> int:
    """Of the whole parameter, of which this process may have a share only (ZeRO stage 3)."""
    packed = getattr(parameter, "quant_state", None)  # of 4-bit weights, two in an element
    return packed.shape.numel() if packed is not None else getattr(parameter, "ds_numel", None) or parameter.numel()


def estimated_bytes(model: nn.Module, optimizer: Optimizer) -> tuple[int, int]:
    """(bytes of a saved model or adapter, bytes of a whole checkpoint), before the optimizer has any state."""
    sizes = {parameter: num_elements(parameter) * parameter.element_size() for parameter in model.parameters()}
    weights = sum(sizes.values())
    trained = sum(size for parameter, size in sizes.items() if parameter.requires_grad)
    moments = 2
    optimizer = getattr(optimizer, "optimizer", optimizer)  # DeepSpeed's is around it
    if isinstance(optimizer, torch.optim.SGD):
        moments = int(any(group["momentum"] for group in optimizer.param_groups))
    return trained if is_adapted(model) else weights, trained + moments * trained


class RandomState(NamedTuple):
    """The random generators of this process: Python's, numpy's, torch's, and that of its GPU."""

    python: tuple[Any, ...]
    numpy: dict[str, Any]
    torch: Tensor
    cuda: Tensor | None

    @classmethod
    def now(cls) -> RandomState:
        """As they are."""
        numpy_state: Any = np.random.get_state(legacy=False)
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
        return cls(random.getstate(), numpy_state, torch.get_rng_state(), cuda)

    def restore(self) -> None:
        """Set this process's generators back."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)
        if self.cuda is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(self.cuda)

    def as_json(self) -> dict[str, Any]:
        """Numbers, lists and text alone: nothing that would have to be unpickled."""
        version, internal, gauss = self.python
        key = self.numpy["state"]["key"]
        return {
            "python": [version, list(internal), gauss],
            "numpy": {
                **self.numpy,
                "state": {**self.numpy["state"], "key": _text(torch.from_numpy(key.view(np.uint8)))},
            },
            "torch": _text(self.torch),
            "cuda": None if self.cuda is None else _text(self.cuda),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> RandomState:
        """The inverse of `as_json`."""
        version, internal, gauss = value["python"]
        state = {**value["numpy"]["state"], "key": _bytes(value["numpy"]["state"]["key"]).numpy().view(np.uint32)}
        return cls(
            (version, tuple(internal), gauss),
            {**value["numpy"], "state": state},
            _bytes(value["torch"]),
            None if value["cuda"] is None else _bytes(value["cuda"]),
        )


def _text(state: Tensor) -> str:
    return base64.b64encode(state.cpu().numpy().tobytes()).decode()


def _bytes(text: str) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
