"""`hfscale compress`: the choices for a run's model side by side: size, memory, speed and what each costs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from hfscale.commands.output import refuse_taken
from hfscale.errors import SettingsError
from hfscale.schemas.compress import CompressSettings


def add_parser(commands: Any) -> None:
    """Add the command to those of `hfscale`."""
    parser = commands.add_parser(
        "compress",
        usage="%(prog)s RUN [OPTIONS]",
        help="compare the ways to make a run's model smaller: size, memory, speed, metric; recommend one",
        description="Make the model of a finished run in bfloat16, 8 and 4 bits, pruned, and merged where it is an "
        "adapter; measure each in a process of its own on the run's validation rows, and say which to take and how. "
        "What is made for that is removed again.",
        epilog="hfscale compress runs/quickstart\nhfscale compress runs/bert --also runs/bert-pruned-recovered",
    )
    add = parser.add_argument
    add("run_folder", metavar="RUN", type=Path, help="folder of a finished run")
    add(
        "--also",
        metavar="DIR",
        type=Path,
        nargs="+",
        default=[],
        help="models that are there already, such as the run's pruned one after it was trained again",
    )
    add(
        "--sparsity",
        metavar="SHARE",
        type=float,
        nargs="*",
        default=CompressSettings.sparsities,
        help="shares of neurons or filters to prune, without training afterwards; none for no pruning (0.25 0.5)",
    )
    add(
        "--tolerance",
        type=float,
        default=CompressSettings.tolerance,
        help="points of the main metric that a recommended choice may cost: hundredths, of BLEU and chrF whole ones, "
        "of a loss percent of it (1)",
    )
    add(
        "--base",
        metavar="NAME",
        help="the full-precision model that an adapter was trained on: folder, Hub id or builtin: name; by default "
        "the run's own",
    )
    add(
        "--examples",
        type=int,
        default=CompressSettings.examples,
        help="the most validation examples to look at (1000)",
    )
    add(
        "--batch_size",
        type=int,
        default=CompressSettings.batch_size,
        help="examples per forward pass where throughput and metrics are measured (16)",
    )
    add("--keep", action="store_true", help="keep the models that were made, in the output folder")
    add("--output", type=Path, help="folder for compress.json, compress.md and compress.png (RUN/compress)")
    parser.set_defaults(run=_compress)


def _compress(settings: argparse.Namespace) -> None:
    wanted = _wanted(settings)
    run: Path = settings.run_folder
    output: Path = settings.output or run / "compress"
    from hfscale import files, launch, runs
    from hfscale.compression.refusals import refuse_prompt

    model = runs.model_folder_of(run)
    if not runs.settings_of(run):
        raise SettingsError(
            f"{run} is no run's folder (it has no config.yaml), so that there is nothing to measure on"
        )
    refuse_prompt(model)
    refuse_taken(output)
    _refuse_also(settings.also)
    _refuse_base(settings.base, model)
    launch.quieten_deepspeed()
    from hfscale import compression
    from hfscale.compression.compress_picture import draw
    from hfscale.compression.compress_report import as_markdown, print_table
    from hfscale.compression.compressing import compress

    saved = compression.find_model(run)
    with files.replacing_folder(output) as temporary:
        found = compress(saved, wanted, settings.also, run, temporary)
        files.write_json(temporary / "compress.json", found.as_json())
        draw(found, temporary / "compress.png")
        files.write_text(temporary / "compress.md", as_markdown(found, "compress.png"))
        if not settings.keep:
            for folder in [each for each in temporary.iterdir() if each.is_dir()]:
                files.remove_folder(folder)
    print_table(found, sys.stdout)
    sys.stdout.write(f"saved      {output}/compress.json, {output}/compress.md, {output}/compress.png\n")


def _wanted(settings: argparse.Namespace) -> CompressSettings:
    try:
        return CompressSettings(
            sparsities=tuple(settings.sparsity),
            base=settings.base,
            tolerance=settings.tolerance,
            examples=settings.examples,
            batch_size=settings.batch_size,
        )
    except ValueError as error:
        raise SettingsError(str(error)) from None


def _refuse_also(folders: list[Path]) -> None:
    from hfscale import runs
    from hfscale.compression.refusals import config_of
    from hfscale.compression.variants import MADE, row_name

    for folder in folders:
        config_of(runs.model_folder_of(folder))
    names = [row_name(folder) for folder in folders]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise SettingsError(f"--also names two folders that are called {twice}; rename one")
    taken = next((name for name in names if name in MADE or name.startswith("pruned ")), None)
    if taken:
        raise SettingsError(f"--also {taken}: a row of what is made here has that name; rename the folder")


def _refuse_base(base: str | None, model: Path) -> None:
    if base and not (model / "adapter_config.json").is_file():
        raise SettingsError(f"--base has no effect: {model} holds no adapter; leave it out")
