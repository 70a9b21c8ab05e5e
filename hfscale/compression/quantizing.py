"""A model folder with its linear layers in 8 or 4 bits, and what that saves."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from hfscale.compression.kinds import SavedModel, load_model
from hfscale.errors import ModelError
from hfscale.models.quantization import bits_arguments, num_bytes
from hfscale.schemas import QuantSettings


def quantize(saved: SavedModel, bits: Literal[4, 8], folder: Path) -> dict[str, Any]:
    """Write the model in few bits into `folder`, and read it again to see that it has the same bits.

    Returns:
        `layers`, how many were quantized, and their bytes in float32, in memory and on the disk, scales and codebooks
        included.

    Raises:
        MissingExtraError: where bitsandbytes is not installed.
        ModelError: for a model without linear layers, and one that does not come back from the disk as it was.
    """
    import torch

    arguments = bits_arguments(saved.config, saved.model_class, QuantSettings(bits=bits), trust_remote_code=False)
    model = load_model(saved, arguments)
    layers = quantized_layers(model)
    if not layers:
        raise ModelError(f"{saved.folder} has no linear layer but its head, so that --bits has nothing to do")
    sizes = {
        "layers": len(layers),
        "float32_bytes": sum(_float32_bytes(layer) for layer in layers.values()),
        "memory_bytes": sum(num_bytes(each) for layer in layers.values() for each in layer.parameters()),
    }
    held = {name: value.clone() for name, value in model.state_dict().items()}
    model.save_pretrained(folder)
    again = load_model(saved.moved(folder)).state_dict()
    changed = sorted(name for name in held.keys() | again.keys() if not _equal(held.get(name), again.get(name)))
    if changed:
        raise ModelError(f"{saved.folder}: in {bits} bits, {', '.join(changed[:3])} did not come back from the disk")
    assert any(value.dtype in (torch.int8, torch.uint8) for value in held.values())
    return {**sizes, "disk_bytes": sum(_disk_bytes(folder, layers).values())}


def halve(saved: SavedModel, folder: Path) -> None:
    """Write the model with all its weights in bfloat16 into `folder`: half the bytes of float32, with its range and
    two or three decimal digits."""
    import torch

    load_model(saved).to(torch.bfloat16).save_pretrained(folder)


def quantized_layers(model: Any) -> dict[str, Any]:
    """bitsandbytes' layers by name."""
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    return {name: module for name, module in model.named_modules() if isinstance(module, (Linear4bit, Linear8bitLt))}


def weights_bytes(folder: Path) -> int:
    """Bytes of all weights files of a model folder."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _float32_bytes(layer: Any) -> int:
    return 4 * (layer.in_features * layer.out_features + (layer.out_features if layer.bias is not None else 0))


def _disk_bytes(folder: Path, layers: Iterable[str]) -> dict[str, int]:
    """Bytes of everything in the weights files that belongs to a layer: its weight, its bias, the state of either."""
    prefixes = tuple(f"{name}." for name in layers)
    found = {}
    for path in folder.glob("*.safetensors"):
        for name, entry in _header(path).items():
            if name.startswith(prefixes):
                first, end = entry["data_offsets"]
                found[name] = end - first
    return found


def _header(path: Path) -> dict[str, Any]:
    """The table of contents of a safetensors file: 8 bytes with its length, and JSON."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length))


def _equal(one: Any, other: Any) -> bool:
    import torch

    return one is not None and other is not None and one.dtype == other.dtype and torch.equal(one, other)
