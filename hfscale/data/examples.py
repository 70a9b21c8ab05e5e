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
_FORMAT = 1  # raise it when the table's columns or the checks change: it is part of the cache's key


def load_examples(name: str, settings: DataSettings, problem_type: ProblemType | None) -> Dataset:
    """All good examples of a source; `problem_type` None reads text alone.

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


def _cached_table(source: Source, settings: DataSettings, problem_type: ProblemType | None) -> Dataset:
    import datasets
    from datasets.exceptions import DatasetGenerationError

    # The columns must exist before `datasets` opens a cache folder for them.
    _refuse_missing_columns(list(itertools.islice(source.rows(settings), _COLUMNS_FROM)), settings, problem_type)
    fingerprint = source.fingerprint(settings)
    if fingerprint:
        # repr of the frozen settings names everything that changes how rows are read
        key = f"{_FORMAT}\0{fingerprint}\0{settings!r}\0{problem_type}"
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


def _features(settings: DataSettings, problem_type: ProblemType | None) -> Any:
    from datasets import Features, List, Value

    columns: dict[str, Any] = {"text": Value("string"), "where": Value("string"), "problem": Value("string")}
    if not isinstance(settings.text, str) and len(settings.text) == 2:
        columns["text_pair"] = Value("string")
    labels = {
        "single_label_classification": Value("string"),
        "multi_label_classification": List(Value("string")),
        "regression": Value("float64"),
    }
    if problem_type:
        columns["label"] = labels[problem_type]
    return Features(columns)


def _names(setting: str | list[str]) -> list[str]:
    return [setting] if isinstance(setting, str) else list(setting)


def _refuse_missing_columns(rows: list[Row], settings: DataSettings, problem_type: ProblemType | None) -> None:
    """Objects of JSON lines may each leave out keys: what none of the first rows has is taken for missing."""
    wanted = [("--data.text", name) for name in _names(settings.text)]
    wanted += [("--data.label", name) for name in _names(settings.label)] if problem_type else []
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
            value = row.values.get(name)
            example[key] = value if isinstance(value, str) else "" if value is None else str(value)
            if not example[key].strip():
                example["problem"] = f"no text in column {name}"
            elif not _is_storable(example[key]):
                example[key], example["problem"] = "", f"column {name} holds half of a character (a lone surrogate)"
        if label_of:
            example["label"], problem = label_of(row, settings)
            example["problem"] = example["problem"] or problem
        yield example


def _is_storable(text: str) -> bool:
    """False for text that no encoding holds: JSON can write half of a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _class_label(row: Row, settings: DataSettings) -> tuple[str | None, str | None]:
    name = _names(settings.label)[0]
    value = row.values.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, (list, dict)):
        several = "--task multi_label_classification takes several"
        return None, f"column {name} holds a {type(value).__name__}, not one label ({several})"
    text = "" if value is None else str(value).strip()
    return (text, None) if text else (None, f"no label in column {name}")


def _several_labels(row: Row, settings: DataSettings) -> tuple[list[str] | None, str | None]:
    if not isinstance(settings.label, str):
        return _indicator_labels(row, settings.label)
    value = row.values.get(settings.label)
    if isinstance(value, str) and settings.label_separator:
        return [part.strip() for part in value.split(settings.label_separator) if part.strip()], None
    if isinstance(value, list):
        return [str(item).strip() for item in value], None
    if value is None:
        return None, f"no labels in column {settings.label}"
    return None, f"column {settings.label} holds text, not a list of labels; name its --data.label_separator"


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
    if value is None or (isinstance(value, str) and not value.strip()):
        return None, f"no label in column {name}"
    try:
        number = float(value)
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
