"""`hfscale export`: a run's model for those who use it: its adapter merged, its weights in few bits or as ONNX."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from hfscale.commands.output import refuse_taken
from hfscale.errors import SettingsError
from hfscale.schemas.export import Bits, ExportSettings, Format

if TYPE_CHECKING:
    from hfscale.compression import SavedModel

_ELSEWHERE = {
    "gguf": "hfscale writes no gguf, for which no package is kept on PyPI; export the model as it is or with --merge, "
    "and then run llama.cpp's: python convert_hf_to_gguf.py FOLDER --outfile model.gguf",
}


def add_parser(commands: Any) -> None:
    """Add the command to those of `hfscale`."""
    parser = commands.add_parser(
        "export",
        help="merge a run's adapter, hold its weights in 16, 8 or 4 bits, write ONNX, and measure what that changes",
        description="Make a folder of a run's model that plain from_pretrained or ONNX Runtime loads. Both models are "
        "run on the run's validation data; an export that changes the model too much is not kept.",
        epilog="hfscale export runs/lora --merge --bits 4\nhfscale export runs/bert --format onnx",
    )
    add = parser.add_argument
    add("run_folder", metavar="RUN", type=Path, help="run folder, or a model folder")
    add("--merge", action="store_true", help="merge the adapter into the model it was trained on, in float32")
    add(
        "--bits",
        type=int,
        choices=get_args(Bits),
        help="hold all weights in 16 bits (bfloat16), or the linear layers in 8 (LLM.int8) or 4 (nf4)",
    )
    add(
        "--base",
        metavar="NAME",
        help="the full-precision model that the adapter was trained on: folder, Hub id or builtin: name; by default "
        "the run's own",
    )
    add(
        "--run",
        dest="of_run",
        metavar="RUN",
        type=Path,
        help="the run whose validation data is compared on, for a "
        "model folder that doesn't lie in one, nor beside the one that it was pruned from",
    )
    add(
        "--format",
        choices=get_args(Format),
        metavar="{safetensors,onnx}",
        default="safetensors",
        help="kind of file (safetensors); onnx needs the extra",
    )
    add("--output", type=Path, help="folder to write; by default beside the model, as in RUN/model-merged-4bit")
    add(
        "--tolerance",
        type=float,
        help="how far the model may change: a fraction of the largest logit for a merge or onnx (1e-4), of the main "
        "metric where the bits of weights change (0.01 for 16 bits, 0.02 for 8, 0.05 for 4)",
    )
    add("--examples", type=int, default=1_000, help="the most validation examples to compare on (1000)")
    add("--batch_size", type=int, default=16, help="examples per forward pass (16)")
    parser.set_defaults(run=_export)


def _export(settings: argparse.Namespace) -> None:
    wanted = _wanted(settings)
    from hfscale import compression, console, files, hub, launch, runs
    from hfscale.compression.refusals import refuse_export

    folder = runs.model_folder_of(settings.run_folder)
    if settings.of_run and not runs.settings_of(settings.of_run):
        raise SettingsError(f"--run {settings.of_run} is no run's folder (it has no config.yaml)")
    output = settings.output or folder.with_name(f"{folder.resolve().name}-{wanted.name}")
    refuse_taken(output)
    refuse_export(folder, wanted)
    launch.quieten_deepspeed()
    run = settings.of_run or runs.run_around(settings.run_folder)
    saved = compression.find_model(settings.run_folder, run)
    with files.replacing_folder(output) as temporary:
        exported = compression.export(saved, wanted, temporary) | {"run": runs.run_name(output, run)}
        files.write_json(temporary / "export.json", exported)
        card = saved.folder / "README.md"
        if card.is_file():
            published = hub.published_as(run) if run else None
            text = hub.exported_card(card.read_text(encoding="utf-8"), exported, _usage(saved, wanted), published)
            files.write_text(temporary / "README.md", text)
    _say_sizes(exported)
    console.say(f"saved      {output}")


def _usage(saved: SavedModel, wanted: ExportSettings) -> str:
    """Lines of the card that use what was made."""
    from hfscale import hub

    if wanted.format == "onnx":
        return hub.onnx_usage(saved.kind)
    data, model = (saved.run.get(name) or {} for name in ("data", "model"))
    trust = ", trust_remote_code=True" if model.get("trust_remote_code") else ""
    if saved.kind == "seq2seq":
        return hub.seq2seq_usage(data, trust)
    if saved.is_chat:
        return hub.chat_usage(data, trust)
    return hub.plain_usage(saved.kind, trust, isinstance(data.get("text"), list) and len(data["text"]) == 2)


def _wanted(settings: argparse.Namespace) -> ExportSettings:
    if settings.format in _ELSEWHERE:
        raise SettingsError(f"--format {settings.format}: {_ELSEWHERE[settings.format]}")
    if not settings.merge and not settings.bits and settings.format == "safetensors":
        raise SettingsError(
            "nothing to export: give --merge, --bits 16, --bits 8, --bits 4 or --format onnx, or --merge with another"
        )
    try:
        return ExportSettings(
            merge=settings.merge,
            bits=settings.bits,
            format=settings.format,
            base=settings.base,
            tolerance=settings.tolerance,
            examples=settings.examples,
            batch_size=settings.batch_size,
        )
    except ValueError as error:
        raise SettingsError(str(error)) from None


def _say_sizes(exported: dict[str, Any]) -> None:
    from hfscale import console

    sizes = {name: f"{number / 2**20:,.2f} MiB" for name, number in exported["weights_bytes"].items()}
    before = f"the adapter {sizes['before']}, merged {sizes['merged']}" if "merged" in sizes else sizes["before"]
    if exported["format"] == "onnx":
        console.say(f"size       weights on the disk: {before}, as ONNX {sizes['after']}")
        return
    if exported["bits"] is None:
        console.say(f"size       weights on the disk: {before}")
        return
    console.say(f"size       weights on the disk: {before}, in {exported['bits']} bits {sizes['after']}")
    layers = exported["quantized_layers"]
    if layers is None:
        return
    whole = layers["float32_bytes"]
    console.say(
        f"layers     {layers['layers']} quantized, of {whole / 2**20:,.2f} MiB in float32: "
        f"{layers['disk_bytes'] / 2**20:,.2f} on the disk ({layers['disk_bytes'] / whole:.1%}), "
        f"{layers['memory_bytes'] / 2**20:,.2f} in memory ({layers['memory_bytes'] / whole:.1%}), scales included"
    )
