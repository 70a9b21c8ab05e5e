"""Rows of any source -> one uniform table of text and label, memory-mapped and cached by content.

Columns: `text`, `text_pair` (only with two text columns), `label` (a string, a list of strings or a number, by
problem type; absent for prediction), `where` (file and line), `problem` (what is wrong with the row, or null).
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from hfscale import console
from hfscale.data.readers import Row
from hfscale.data.sources import Source, find_source
from hfscale.errors import DataError, HfscaleError, did_you_mean
from hfscale.schemas import DataSettings, ProblemType

if TYPE_CHECKING:
    from datasets import Dataset

_COLUMNS_FROM = 100  # rows
_READING = ("text", "label", "label_separator", "columns", "delimiter", "quoting", "encoding")
"""The settings that change what is read: with the files' content they are the cache's key."""
_FORMAT = 1  # raise it when the table's columns or the checks change: it is part of the cache's key


def load_examples(name: str, settings: DataSettings, problem_type: ProblemType) -> Dataset:
    """All good examples of a source.

    Raises:
        DataError: for what `find_source` and the readers refuse, a missing column, and, unless
            `settings.bad_rows` is `skip`, the first row without text or label and the number of others.
    """
    import datasets

    source = find_source(name)
    if not console.is_terminal():
        datasets.disable_progress_bars()
    table = _cached_table(source, settings, problem_type)
    return _without_bad_rows(table, source, settings)


def read_texts(name: str, settings: DataSettings) -> list[tuple[str, ...]]:
    """The texts of a source alone, or the pairs, in order and in memory: nothing is cached, and no row is left out.

    Raises:
        DataError: as `load_examples`; also for a row without text, whatever `settings.bad_rows` says.
    """
    source = find_source(name)
    first = list(itertools.islice(source.rows(settings), _COLUMNS_FROM))
    _refuse_missing_columns(first, [("text column", column) for column in _names(settings.text)])
    texts = []
    for example in _examples(source, settings, None):
        if example["problem"]:
            raise DataError(f"{example['where']}: {example['problem']}")
        texts.append(tuple(example[key] for key in ("text", "text_pair") if key in example))
    return texts


def _cached_table(source: Source, settings: DataSettings, problem_type: ProblemType) -> Dataset:
    import datasets
    from datasets.exceptions import DatasetGenerationError

    # The columns must exist before `datasets` opens a cache folder for them.
    wanted = [("--data.text", column) for column in _names(settings.text)]
    wanted += [("--data.label", column) for column in _names(settings.label)]
    _refuse_missing_columns(list(itertools.islice(source.rows(settings), _COLUMNS_FROM)), wanted)
    read_as = [getattr(settings, name) for name in _READING]
    key = f"{_FORMAT}\0{source.fingerprint(settings)}\0{read_as!r}\0{problem_type}"
    fingerprint = hashlib.sha256(key.encode()).hexdigest()[:32]
    try:
        table = datasets.Dataset.from_generator(
            _examples,
            features=_features(settings, problem_type),
            gen_kwargs={"source": source, "settings": settings, "problem_type": problem_type},
            fingerprint=fingerprint,
        )
    except DatasetGenerationError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, (HfscaleError, OSError)):
            cause = cause.__cause__
        raise (cause or error) from None
    assert isinstance(table, datasets.Dataset)
    return table


def _features(settings: DataSettings, problem_type: ProblemType) -> Any:
    from datasets import Features, List, Value

    columns: dict[str, Any] = {"text": Value("string"), "where": Value("string"), "problem": Value("string")}
    if not isinstance(settings.text, str) and len(settings.text) == 2:
        columns["text_pair"] = Value("string")
    labels = {
        "single_label_classification": Value("string"),
        "multi_label_classification": List(Value("string")),
        "regression": Value("float64"),
    }
    columns["label"] = labels[problem_type]
    return Features(columns)


def _names(setting: str | list[str]) -> list[str]:
    return [setting] if isinstance(setting, str) else list(setting)


def _refuse_missing_columns(rows: list[Row], wanted: list[tuple[str, str]]) -> None:
    """Objects of JSON lines may each leave out keys: what none of the first rows has is taken for missing.

    `wanted` holds (how a person names it, column).
    """
    found = list(dict.fromkeys(str(name) for row in rows for name in row.values))
    for flag, name in wanted:
        if name not in found:
            source = rows[0].where.rsplit(" ", 2)[0]
            near, columns = did_you_mean(name, found), ", ".join(found)
            raise DataError(f"{source} has no column {name} ({flag}){near or ';'} its columns are {columns}")


def _examples(source: Source, settings: DataSettings, problem_type: ProblemType | None) -> Iterator[dict[str, Any]]:
    label_of = _LABELS[problem_type] if problem_type else None
    texts = _names(settings.text)
    for row in source.rows(settings):
        example: dict[str, Any] = {"where": row.where, "problem": None}
        for key, name in zip(("text", "text_pair"), texts, strict=False):
            example[key], problem = _text(row, name)
            example["problem"] = example["problem"] or problem
        if label_of:
            example["label"], problem = label_of(row, settings)
            example["problem"] = example["problem"] or problem
        yield example


def _text(row: Row, name: str) -> tuple[str, str | None]:
    value = row.values.get(name)
    if isinstance(value, (list, dict)):
        return "", f"column {name} holds a {type(value).__name__}, not a text"
    text = "" if _is_missing(value) else str(value)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # JSON can write one
        return "", f"column {name} holds half of a character (a lone surrogate)"
    return text, None if text.strip() else f"no text in column {name}"


def _is_missing(value: Any) -> bool:
    """None, and the number NaN that parquet and pandas write in its place; the text "nan" is a text."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _label_name(value: Any) -> str:
    """A class as text: 1.0 and 1 are the same class; empty where it is missing."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if _is_missing(value) else str(value).strip()


def _class_label(row: Row, settings: DataSettings) -> tuple[str | None, str | None]:
    name = _names(settings.label)[0]
    value = row.values.get(name)
    if isinstance(value, (list, dict)):
        several = "--task multi_label_classification takes several"
        return None, f"column {name} holds a {type(value).__name__}, not one label ({several})"
    text = _label_name(value)
    return (text, None) if text else (None, f"no label in column {name}")


def _several_labels(row: Row, settings: DataSettings) -> tuple[list[str] | None, str | None]:
    if not isinstance(settings.label, str):
        return _indicator_labels(row, settings.label)
    value = row.values.get(settings.label)
    if isinstance(value, str) and settings.label_separator:
        return [part.strip() for part in value.split(settings.label_separator) if part.strip()], None
    if _is_missing(value):
        return None, f"no labels in column {settings.label}"
    if not isinstance(value, list):
        return None, f"column {settings.label} holds text, not a list of labels; name its --data.label_separator"
    names = [_label_name(item) for item in value]
    return (names, None) if all(names) else (None, f"an empty label in column {settings.label}")


def _indicator_labels(row: Row, columns: list[str]) -> tuple[list[str] | None, str | None]:
    """Names of the columns that hold 1 or true."""
    labels = []
    for name in columns:
        value = str(row.values.get(name)).strip().lower()
        if value not in ("0", "1", "0.0", "1.0", "true", "false"):
            return None, f"column {name} holds {row.values.get(name)!r}, not 0 or 1"
        if value in ("1", "1.0", "true"):
            labels.append(name)
    return labels, None


def _number(row: Row, settings: DataSettings) -> tuple[float | None, str | None]:
    name = _names(settings.label)[0]
    value = row.values.get(name)
    if _is_missing(value) or (isinstance(value, str) and not value.strip()):
        return None, f"no label in column {name}"
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None, f"column {name} holds {value!r}, not a number"
    return (number, None) if math.isfinite(number) else (None, f"column {name} holds {value!r}, not a finite number")


_LABELS: dict[ProblemType, Callable[[Row, DataSettings], tuple[Any, str | None]]] = {
    "single_label_classification": _class_label,
    "multi_label_classification": _several_labels,
    "regression": _number,
}


def _without_bad_rows(table: Dataset, source: Source, settings: DataSettings) -> Dataset:
    import numpy as np

    is_bad = np.array([problem is not None for problem in table["problem"]])
    bad = np.flatnonzero(is_bad)
    if not len(bad):
        return table.remove_columns("problem")
    first = table[int(bad[0])]
    line = f"{first['where']}: {first['problem']}"
    others = f" (and {len(bad) - 1:,} more such rows)" if len(bad) > 1 else ""
    if settings.bad_rows == "refuse":
        raise DataError(f"{line}{others}; mend it, or leave such rows out with --data.bad_rows skip")
    if len(bad) == len(table):
        raise DataError(f"{source.name}: every row is unusable; the first: {line}")
    console.warn(f"left out {len(bad):,} of {len(table):,} rows of {source.name}; the first: {line}")
    return table.select(np.flatnonzero(~is_bad)).remove_columns("problem")
