"""The `hfscale` command: what can be done with a finished run."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from hfscale.errors import DataError, ModelError, SettingsError, one_line


def main(args: list[str] | None = None) -> None:
    """Entry point of `hfscale`; a user's mistake ends in one line and exit status 2."""
    parser = argparse.ArgumentParser(prog="hfscale", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_predict(commands)
    with one_line():
        settings = parser.parse_args(args)
        settings.run(settings)


def _add_predict(commands: Any) -> None:
    parser = commands.add_parser(
        "predict",
        allow_abbrev=False,
        help="label texts with a run's model",
        description="Label texts with a run's model; one JSON object per text, with every label's probability.",
    )
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="run folder, or a model folder")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--text", nargs="+", metavar="TEXT", help="one or more texts; for sentence pairs, two")
    source.add_argument("--file", help="csv, tsv, txt, json, jsonl or parquet file, plain or .gz")
    parser.add_argument(
        "--column", nargs="+", metavar="NAME", help="text column(s) of the file; by default the run's own"
    )
    parser.add_argument("--delimiter", help="field separator of a csv file, by default a comma")
    parser.add_argument(
        "--columns", nargs="+", metavar="NAME", help="column names of a csv file without a header line"
    )
    parser.add_argument("--quoting", choices=("true", "false"), help="whether csv fields may be quoted (true)")
    parser.add_argument("--encoding", help="text encoding of the file (utf-8)")
    parser.add_argument("--output", type=Path, help="file for the JSON lines; by default they are printed")
    parser.add_argument("--batch_size", type=int, default=64, help="texts per forward pass (64)")
    parser.set_defaults(run=_predict)


def _predict(settings: argparse.Namespace) -> None:
    from hfscale import console, evaluation, files, models

    _check_predict(settings)
    folder: Path = settings.run_folder
    if not folder.is_dir():
        raise ModelError(f"no such folder: {folder}")
    run_config = _run_config(folder)
    model_folder = folder / "model" if (folder / "model").is_dir() else folder
    if run_config and model_folder == folder:
        raise ModelError(f"the run in {folder} has not finished; its best model may be in {folder}/checkpoints/best")
    trust = bool((run_config.get("model") or {}).get("trust_remote_code"))
    classifier = models.saved_text_classifier(model_folder, trust_remote_code=trust)
    texts = _given_texts(settings, run_config)
    wanted = (run_config.get("data") or {}).get("max_length")
    predictions = evaluation.predict_texts(
        classifier.model, classifier.tokenizer, texts, classifier.max_length(wanted), settings.batch_size
    )
    lines = [json.dumps(prediction, ensure_ascii=False) for prediction in predictions]
    if settings.output:
        files.write_text(settings.output, "\n".join(lines) + "\n")
        console.say(f"wrote {len(lines):,} JSON lines to {settings.output}")
    else:
        sys.stdout.write("\n".join(lines) + "\n")


def _check_predict(settings: argparse.Namespace) -> None:
    """Refuse what would only fail when all predictions are done."""
    if settings.batch_size < 1:
        raise SettingsError("--batch_size must be at least 1")
    if settings.column and len(settings.column) > 2:
        raise SettingsError("--column takes one name, or two for pairs")
    for name in ("column", "columns", "delimiter", "quoting", "encoding"):
        if getattr(settings, name) is not None and not settings.file:
            raise SettingsError(f"--{name} has no effect without --file; leave it out")
    if settings.output and not settings.output.parent.is_dir():
        raise SettingsError(f"--output {settings.output}: its folder doesn't exist")
    if settings.output and settings.output.exists():
        raise SettingsError(f"--output {settings.output} exists already; choose another, or remove it first")


def _run_config(folder: Path) -> dict[str, Any]:
    """The run's settings; empty for a bare model folder."""
    import yaml

    path = folder / "config.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _given_texts(settings: argparse.Namespace, run_config: dict[str, Any]) -> list[tuple[str, ...]]:
    """One tuple of a text, or of the two of a pair, for each prediction."""
    trained_on = (run_config.get("data") or {}).get("text", "text")
    num_texts = 1 if isinstance(trained_on, str) else len(trained_on)
    if settings.text:
        if num_texts == 2 and len(settings.text) != 2:
            raise SettingsError("this model reads pairs: give --text FIRST SECOND")
        return [tuple(settings.text)] if num_texts == 2 else [(text,) for text in settings.text]
    return _texts_of_file(settings, trained_on)


def _texts_of_file(settings: argparse.Namespace, trained_on: Any) -> list[tuple[str, ...]]:
    from hfscale import data
    from hfscale.data.readers import file_kind
    from hfscale.schemas import DataSettings

    # Only the names of the columns are the run's: a new file may well be of another kind than the training file.
    text = settings.column or ("text" if file_kind(Path(settings.file)) == ".txt" else trained_on)
    text = text[0] if isinstance(text, list) and len(text) == 1 else text
    try:
        read_as = DataSettings(
            train=settings.file,
            text=text,
            columns=settings.columns,
            delimiter=settings.delimiter,
            quoting=settings.quoting != "false",
            encoding=settings.encoding or "utf-8",
        )
        return data.read_texts(settings.file, read_as)
    except (DataError, ValueError) as error:
        raise DataError(str(error).replace("--data.", "--")) from None
