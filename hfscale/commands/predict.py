"""`hfscale predict`: label texts, tag words or answer questions with a run's model."""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import json
import sys
from pathlib import Path
from typing import Any

from hfscale.commands.output import refuse_taken
from hfscale.errors import DataError, SettingsError

_TABLES = {".csv": ",", ".tsv": "\t"}
_NESTED = ("token_classification", "multi_label_classification")  # tags of words, several labels: no table's columns
_LENGTH = 512  # tokens that an encoder-decoder reads of which nothing else is known


def add_parser(commands: Any) -> None:
    """Add the command to those of `hfscale`."""
    parser = commands.add_parser(
        "predict",
        usage="%(prog)s RUN (--text TEXT ... | --file FILE) [OPTIONS]",
        help="label texts, tag words, answer questions or translate with a run's model",
        description="Predict with a run's model; one JSON object per text: its label with every label's probability, "
        "its words with their tags, the answer to a question, or what an encoder-decoder writes.",
    )
    parser.add_argument("run_folder", metavar="RUN", type=Path, help="run folder, or a model folder")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--text", nargs="+", action="extend", metavar="TEXT", help="one or more texts; for a pair or a question, two"
    )
    source.add_argument("--file", help="csv, tsv, txt, json, jsonl or parquet file, plain or .gz; CoNLL, SQuAD")
    parser.add_argument(
        "--column", nargs="+", metavar="NAME", help="text column(s) of the file; by default the run's own"
    )
    parser.add_argument("--delimiter", help="field separator of a csv file, by default a comma")
    parser.add_argument(
        "--columns", nargs="+", metavar="NAME", help="column names of a csv file without a header line"
    )
    parser.add_argument("--quoting", choices=("true", "false"), help="whether csv fields may be quoted (true)")
    parser.add_argument("--encoding", help="text encoding of the file (utf-8)")
    parser.add_argument(
        "--output",
        type=Path,
        help="file for the JSON lines, or a .csv or .tsv with label and score; by default they are printed",
    )
    parser.add_argument(
        "--trust_remote_code",
        action="store_true",
        help="run Python code that comes with the model, whatever the run was told; only for authors you trust",
    )
    parser.add_argument(
        "--base",
        metavar="NAME",
        help="the model that an adapter was trained on: folder, Hub id or builtin: name; by default the run's own",
    )
    parser.add_argument("--batch_size", type=int, default=64, help="texts per forward pass (64)")
    parser.set_defaults(run=_predict)


def _predict(settings: argparse.Namespace) -> None:
    from hfscale import models, runs

    _check_predict(settings)
    folder: Path = settings.run_folder
    model_folder = runs.model_folder_of(folder)
    trained_on = runs.data_around(folder)
    # A run folder may come from anywhere: its own settings must not have code run on this machine.
    base = _base(settings, folder, model_folder)
    if models.is_seq2seq(model_folder):
        return _put_out(settings, _outputs(settings, model_folder, base, trained_on))
    classifier = models.saved_text_classifier(model_folder, settings.trust_remote_code, base)
    if settings.output and settings.output.suffix.lower() in _TABLES and classifier.task in _NESTED:
        raise SettingsError(
            f"--output {settings.output}: what {classifier.task} finds in a text doesn't fit into one row of a table; "
            f"name it {settings.output.with_suffix('.jsonl')}"
        )
    given = _given(settings, trained_on, classifier.task)
    _put_out(settings, _predictions(classifier, given, trained_on, settings.batch_size))


def _outputs(settings: argparse.Namespace, model_folder: Path, base: Any, data: dict[str, Any]) -> list[Any]:
    """One object per text: what an encoder-decoder writes of it, behind the prefix that it was trained with."""
    from hfscale import evaluation, models
    from hfscale.data.parallel import IN_BRACES

    in_braces = IN_BRACES.search(str(data.get("train")))
    column = data.get("source") or (in_braces[1].split(",")[0] if in_braces else "source")
    texts = [example["text"] for example in _given(settings, {"text": column}, None)]
    model, tokenizer = models.saved_seq2seq_model(model_folder, settings.trust_remote_code, base)
    length, prefix = data.get("max_length") or min(tokenizer.model_max_length, _LENGTH), data.get("prefix") or ""
    return evaluation.predict_outputs(model, tokenizer, texts, length, settings.batch_size, prefix)


def _put_out(settings: argparse.Namespace, predictions: list[Any]) -> None:
    from hfscale import console, files

    if settings.output and settings.output.suffix.lower() in _TABLES:
        files.write_text(settings.output, _as_table(predictions, _TABLES[settings.output.suffix.lower()]))
        return console.say(f"wrote {len(predictions):,} rows to {settings.output}")
    lines = [json.dumps(prediction, ensure_ascii=False) for prediction in predictions]
    if settings.output:
        files.write_text(settings.output, "\n".join(lines) + "\n")
        console.say(f"wrote {len(lines):,} JSON lines to {settings.output}")
    else:
        sys.stdout.write("\n".join(lines) + "\n")


def _as_table(predictions: list[Any], delimiter: str) -> str:
    """A header and a row per text, without the `scores` of the labels that were not chosen."""
    text = io.StringIO()
    names = [name for name in dict.fromkeys(itertools.chain(*predictions)) if name != "scores"]
    table = csv.DictWriter(text, names, extrasaction="ignore", delimiter=delimiter, lineterminator="\n")
    table.writeheader()
    table.writerows(predictions)
    return text.getvalue()


def _predictions(classifier: Any, given: list[dict[str, Any]], data: dict[str, Any], batch_size: int) -> list[Any]:
    """One object per example, in order; `id` comes first where an example has one."""
    from hfscale import evaluation

    model, tokenizer = classifier
    max_length = classifier.max_length(data.get("max_length"))
    pairs = [tuple(example[name] for name in ("text", "text_pair") if name in example) for example in given]
    if classifier.task == "token_classification":
        sentences = [example.get("words") or example["text"] for example in given]
        return evaluation.predict_tags(model, tokenizer, sentences, max_length, batch_size)
    if classifier.task == "question_answering":
        answers = evaluation.predict_answers(model, tokenizer, pairs, max_length, batch_size, data.get("stride"))
        ids = ({"id": example["id"]} if "id" in example else {} for example in given)
        return [known | answer for known, answer in zip(ids, answers, strict=True)]
    return evaluation.predict_texts(model, tokenizer, pairs, max_length, batch_size)


def _check_predict(settings: argparse.Namespace) -> None:
    """Refuse what would only fail when all predictions are done."""
    if settings.batch_size < 1:
        raise SettingsError("--batch_size must be at least 1")
    if settings.column and len(settings.column) > 2:
        raise SettingsError("--column takes one name, or two for pairs")
    for name in ("column", "columns", "delimiter", "quoting", "encoding"):
        if getattr(settings, name) is not None and not settings.file:
            raise SettingsError(f"--{name} has no effect without --file; leave it out")
    if settings.output:
        refuse_taken(settings.output)


def _base(settings: argparse.Namespace, folder: Path, model_folder: Path) -> Any:
    """The model that an adapter was trained on, as the user or the settings of the run around it say."""
    from hfscale import runs
    from hfscale.schemas import ModelSettings

    if not (model_folder / "adapter_config.json").is_file():
        if settings.base:
            raise SettingsError("--base has no effect: the model is no adapter; leave it out")
        return None
    if settings.base:
        return ModelSettings(name=settings.base)
    return runs.base_of_run(folder)


def _given(settings: argparse.Namespace, trained_on: dict[str, Any], task: Any) -> list[dict[str, Any]]:
    """What to predict for: objects with `text` (and `text_pair`, and `id`) or `words`."""
    if not settings.text:
        return _read(settings, trained_on, task)
    if not all(text.strip() for text in settings.text):
        raise SettingsError("--text is empty")
    if task == "question_answering" and len(settings.text) != 2:
        raise SettingsError("this model answers questions: give --text QUESTION CONTEXT")
    if task == "question_answering" or isinstance(trained_on.get("text"), list):
        if len(settings.text) != 2:
            raise SettingsError("this model reads pairs: give --text FIRST SECOND")
        return [dict(zip(("text", "text_pair"), settings.text, strict=True))]
    return [{"text": text} for text in settings.text]


def _read(settings: argparse.Namespace, trained_on: dict[str, Any], task: Any) -> list[dict[str, Any]]:
    import dataclasses

    from hfscale import data
    from hfscale.data.readers import file_kind
    from hfscale.data.sources import find_source
    from hfscale.data.splits import refuse_idle
    from hfscale.schemas import DataSettings

    # Only the names of the columns are the run's: a new file may well be of another kind than the training file.
    plain = file_kind(Path(settings.file)) == ".txt" and task not in ("token_classification", "question_answering")
    text = settings.column or ("text" if plain else trained_on.get("text"))
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
        was_given = dataclasses.replace(read_as, quoting=settings.quoting is None)
        refuse_idle(was_given, [find_source(settings.file)], task)
        return data.read_texts(settings.file, read_as, task)
    except (DataError, SettingsError, ValueError) as error:
        raise DataError(str(error).replace("--data.", "--")) from None
