"""A model folder for those who use it: adapter merged, weights in few bits or as ONNX, and what that changed."""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hfscale import console
from hfscale.compression.comparison import Comparison, compare, judge_bits, judge_same
from hfscale.compression.inputs import Inputs, find_inputs
from hfscale.compression.kinds import SavedModel, load_model
from hfscale.compression.merging import find_base, load_adapted, merge
from hfscale.compression.onnx_graph import onnx_bytes, write_onnx
from hfscale.compression.onnx_session import OnnxModel
from hfscale.compression.quantizing import halve, quantize, weights_bytes
from hfscale.compression.refusals import refuse_export
from hfscale.data.sources import last_part
from hfscale.models import origin_of
from hfscale.models.locate import locate_model
from hfscale.models.quantization import noted_quantization
from hfscale.network import plain_words
from hfscale.schemas import ExportSettings, ModelSettings
from hfscale.schemas.export import Bits

_PACKAGES = ("torch", "transformers", "safetensors", "peft", "bitsandbytes", "onnx", "onnxscript", "onnxruntime")


def export(saved: SavedModel, settings: ExportSettings, folder: Path) -> dict[str, Any]:
    """Fill an empty `folder` with the model as the settings want it, and compare it with what it was.

    Returns:
        What stands in `export.json`: `merged_into`, `bits`, `format`, `kind`, `reads`, `comparisons`, `weights_bytes`,
        `quantized_layers`, `versions`; no path of this machine.

    Raises:
        ModelError, SettingsError: for what can't be exported, and what changed the model beyond the tolerance.
        MissingExtraError: where PEFT, bitsandbytes or ONNX is not installed.
    """
    from accelerate import Accelerator

    refuse_export(saved.folder, settings)
    base = find_base(saved, settings.base) if settings.merge else None
    processor = processor_of(saved, base)
    accelerator = Accelerator()
    inputs = find_inputs(accelerator, saved, processor, settings)
    found: list[Comparison] = []
    sizes = {"before": weights_bytes(saved.folder)}
    layers, is_onnx = None, settings.format == "onnx"
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        whole = saved
        if base is not None:
            whole = saved.moved(Path(scratch) if settings.bits or is_onnx else folder)
            found += _merge(accelerator, saved, base, whole, inputs, settings)
            sizes["merged"] = weights_bytes(whole.folder)
        if settings.bits:
            layers, few_bits = _in_bits(whole, settings.bits, folder)
            found.append(compare(accelerator, ("float32", load_model(whole)), few_bits, inputs))
            _say(found[-1])
            judge_bits(found[-1], settings.bits, settings.tolerance)
        if is_onnx:
            found.append(_write_onnx(accelerator, whole, processor, inputs, folder))
            judge_same(found[-1], settings.tolerance)
    sizes["after"] = onnx_bytes(folder) if is_onnx else weights_bytes(folder)
    if processor is not None:
        processor.save_pretrained(folder)
    if (saved.folder / "generation_config.json").is_file():
        shutil.copy(saved.folder / "generation_config.json", folder)
    return {
        "merged_into": _public(base) if base else None,
        "bits": settings.bits,
        "format": settings.format,
        "kind": saved.kind,
        "reads": _reads(saved) if saved.kind == "seq2seq" else None,
        "comparisons": [each.as_json() for each in found],
        "weights_bytes": sizes,
        "quantized_layers": layers,
        "versions": _versions(),
    }


def _in_bits(whole: SavedModel, bits: Bits, folder: Path) -> tuple[dict[str, Any] | None, tuple[str, Any]]:
    """Write the model in so many bits; returns (what is known of the quantized layers, the model as it is read
    again with what to call it)."""
    written = whole.moved(folder)
    if bits == 16:
        halve(whole, folder)
        return None, ("bfloat16", load_model(written, dtype="bfloat16"))
    return quantize(whole, bits, folder), (f"{bits} bits", load_model(written))


def _merge(
    accelerator: Any,
    saved: SavedModel,
    base: ModelSettings,
    whole: SavedModel,
    inputs: Inputs,
    settings: ExportSettings,
) -> list[Comparison]:
    """Merge into the folder of `whole`, and compare what is read from there with the model that the adapter made."""
    merge(load_adapted(saved, base)).save_pretrained(whole.folder)
    noted = noted_quantization(saved.config)
    merged = ("merged", load_model(whole))
    name = _public(base)
    adapted = load_adapted(saved, base).get_base_model()
    found = [compare(accelerator, (f"{name} with its adapter", adapted), merged, inputs)]
    del adapted
    _say(found[0])
    judge_same(found[0], None if noted or settings.bits else settings.tolerance)
    if noted:
        bits = 8 if noted.get("load_in_8bit") else 4
        trained = load_adapted(saved, base, as_trained=True).get_base_model()
        found.append(compare(accelerator, (f"{name} in {bits} bits with its adapter", trained), merged, inputs))
        _say(found[1])
        judge_bits(found[1], bits, settings.tolerance)
    return found


def _write_onnx(accelerator: Any, whole: SavedModel, processor: Any, inputs: Inputs, folder: Path) -> Comparison:
    """Write the file and the config beside it, and compare what ONNX Runtime makes of it with the model."""
    model = load_model(whole)
    write_onnx(whole, model, processor, folder)
    model.config.save_pretrained(folder)
    found = compare(accelerator, ("PyTorch", model), ("ONNX Runtime", OnnxModel(folder)), inputs)
    _say(found)
    return found


def processor_of(saved: SavedModel, base: ModelSettings | None) -> Any:
    """A CNN's image processor, or a tokenizer: the model's own, or its base's; None where neither has one."""
    from transformers import AutoImageProcessor, AutoTokenizer

    if saved.kind == "image":
        with plain_words(f"image processor of {saved.folder}", "give a model folder with a whole one"):
            return AutoImageProcessor.from_pretrained(saved.folder)
    places = [str(saved.folder), *([locate_model(base)[0]] if base else [])]
    place = next((each for each in places if (Path(each) / "tokenizer_config.json").is_file()), None)
    if place is None:
        return None
    with plain_words(f"tokenizer of {place}", "give a model folder with a whole one"):
        return AutoTokenizer.from_pretrained(place)


def _reads(saved: SavedModel) -> dict[str, Any]:
    """How an encoder-decoder wants its texts: where the run is not, nothing else says so."""
    told = saved.run.get("data") or {}
    return {name: told[name] for name in ("prefix", "max_length") if told.get(name)}


def _say(found: Comparison) -> None:
    metric = ""
    if found.metric is not None:
        metric = f"{found.metric} {found.metric_before:.4f} -> {found.metric_after:.4f}{found.certainty}; "
    console.say(
        f"compared   {found.before} -> {found.after}: {metric}logits differ by at most "
        f"{found.largest_difference:.1e}, of up to {found.largest_logit:.1f} ({found.inputs})"
    )


def _public(base: ModelSettings) -> str:
    return last_part(origin_of(base.name))


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
