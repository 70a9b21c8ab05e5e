"""Rows of any source -> one uniform table of text and label, memory-mapped and cached by content.

Columns: `where` (file and line), `problem` (what is wrong with the row, or null), and by task

- texts: `text`, `text_pair` (only with two text columns), `label` (a string, a list of strings or a number);
- words with tags: `words`, `label` (a tag per word, as written in the file);
- questions: `id`, `text` (the question), `text_pair` (its context), `label` (`text` and `answer_start` of answers).

For prediction `label` is absent.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from hfscale import console
from hfscale.data.cache import cached_table
from hfscale.data.conll import is_conll, read_conll
from hfscale.data.readers import HALF_CHARACTER, Row, has_half_characters, read_file
from hfscale.data.sources import Source, find_source
from hfscale.data.squad import answers_of, flat_rows
from hfscale.data.tags import tags_of, words_of
from hfscale.errors import DataError, did_you_mean
from hfscale.schemas import DataSettings, SourceSettings, Task, with_columns

if TYPE_CHECKING:
    from datasets import Dataset

    from hfscale.data.image_sources import ImageSource
    from hfscale.schemas import ImageDataSettings

COLUMNS_FROM = 100  # rows
_READING = ("text", "label", "label_separator", "columns", "delimiter", "quoting", "encoding")
"""The settings that change what is read: with the files' content they are the cache's key."""
_FORMAT = 2  # raise it when the table's columns or the checks change: it is part of the cache's key


def load_examples(name: str, settings: DataSettings, task: Task) -> Dataset:
    """All good examples of a source.

    Raises:
        DataError: for what `find_source` and the readers refuse, a missing column, and, unless
            `settings.bad_rows` is `skip`, the first row without text or label and the number of others.
    """
    source, settings = find_source(name), with_columns(settings, task)
    table = _cached_table(source, settings, task)
    return without_bad_rows(table, source, settings)


def read_texts(name: str, settings: DataSettings, task: Task) -> list[dict[str, Any]]:
    """What a model of the task reads, without labels, in order and in memory: nothing is cached, and no row left out.

    Each is an example's `text` (and `text_pair`, and `id` where there is one), or its `words`.

    Raises:
        DataError: as `load_examples`; also for a row without text, whatever `settings.bad_rows` says.
    """
    source, settings = find_source(name), with_columns(settings, task)
    first = _first_rows(source, settings, task)
    refuse_missing_columns(first, [("text column", column) for column in _names(settings.text)])
    texts = []
    for example in _examples(source, settings, task, labelled=False):
        where, problem = example.pop("where"), example.pop("problem")
        if problem:
            raise DataError(f"{where}: {problem}")
        texts.append({name: value for name, value in example.items() if value is not None})
    return texts


def _cached_table(source: Source, settings: DataSettings, task: Task) -> Dataset:
    # The columns must exist before `datasets` opens a cache folder for them.
    wanted = [("--data.text", column) for column in _names(settings.text)]
    wanted += [("--data.label", column) for column in _names(settings.label)]
    refuse_missing_columns(_first_rows(source, settings, task), wanted)
    read_as = [getattr(settings, name) for name in _READING]
    key = f"{_FORMAT}\0{source.fingerprint(settings)}\0{read_as!r}\0{task}"
    arguments = {"source": source, "settings": settings, "task": task}
    return cached_table(_examples, _features(settings, task), arguments, key)


def _features(settings: DataSettings, task: Task) -> Any:
    from datasets import Features, List, Value

    text = Value("string")
    labels: dict[Task, Any] = {
        "single_label_classification": text,
        "multi_label_classification": List(text),
        "regression": Value("float64"),
        "token_classification": List(text),
        "question_answering": {"text": List(text), "answer_start": List(Value("int64"))},
    }
    columns: dict[str, Any] = {"words": List(text)} if task == "token_classification" else {"text": text}
    columns |= {"where": text, "problem": text}
    columns |= {"id": text} if task == "question_answering" else {}
    columns |= {"text_pair": text} if len(_names(settings.text)) == 2 else {}
    return Features({**columns, "label": labels[task]})


def _rows(source: Source, settings: DataSettings, task: Task) -> Iterator[Row]:
    """The source's rows; a question of a SQuAD file is one, and a sentence of a CoNLL file."""
    if task == "question_answering":
        question, context = _names(settings.text)
        yield from flat_rows(source.rows(settings), question, context, _names(settings.label)[0])
    elif task == "token_classification" and source.files:
        for path in source.files:
            yield from read_conll(path, settings) if is_conll(path) else read_file(path, settings)
    else:
        yield from source.rows(settings)


def _first_rows(source: Source, settings: DataSettings, task: Task) -> list[Row]:
    rows = list(itertools.islice(_rows(source, settings, task), COLUMNS_FROM))
    if not rows:  # articles without questions, a split without rows
        raise DataError(f"{source.name} holds no examples")
    return rows


def _names(setting: str | list[str] | None) -> list[str]:
    assert setting is not None, "settings must have gone through `with_columns`"
    return [setting] if isinstance(setting, str) else list(setting)


def refuse_missing_columns(rows: list[Row], wanted: list[tuple[str, str]]) -> None:
    """Objects of JSON lines may each leave out keys: what none of the first rows has is taken for missing.

    `wanted` holds (how a person names it, column). Where there are no rows, there is nothing to tell.
    """
    if not rows:
        return
    found = list(dict.fromkeys(str(name) for row in rows for name in row.values))
    for flag, name in wanted:
        if name not in found:
            source = rows[0].where.rsplit(" ", 2)[0]
            near, columns = did_you_mean(name, found), ", ".join(found)
            raise DataError(f"{source} has no column {name} ({flag}){near or ';'} its columns are {columns}")


def _examples(source: Source, settings: DataSettings, task: Task, labelled: bool = True) -> Iterator[dict[str, Any]]:
    for row in _rows(source, settings, task):
        # New sentences to tag may also be plain texts.
        tagged = task == "token_classification" and (labelled or not isinstance(_first(row, settings), str))
        example, problem = (_words if tagged else _texts)(row, settings)
        if task == "question_answering":
            example["id"], wrong = _id(row)
            problem = problem or wrong
        if labelled:
            example["label"], wrong = _label(row, settings, task, example)
            problem = problem or wrong
        yield {"where": row.where, "problem": problem, **example}


def _first(row: Row, settings: DataSettings) -> Any:
    return row.values.get(_names(settings.text)[0])


def _words(row: Row, settings: DataSettings) -> tuple[dict[str, Any], str | None]:
    words, problem = words_of(row, _names(settings.text)[0])
    return {"words": words}, problem


def _texts(row: Row, settings: DataSettings) -> tuple[dict[str, Any], str | None]:
    found = [text_of(row, name) for name in _names(settings.text)]
    problem = next((problem for _, problem in found if problem), None)
    return dict(zip(("text", "text_pair"), (text for text, _ in found), strict=False)), problem


def _id(row: Row) -> tuple[str | None, str | None]:
    name = None if row.values.get("id") is None else str(row.values["id"])
    return (None, f"its id holds {HALF_CHARACTER}") if has_half_characters(name or "") else (name, None)


def _label(row: Row, settings: DataSettings, task: Task, example: dict[str, Any]) -> tuple[Any, str | None]:
    column = _names(settings.label)[0]
    if task == "token_classification":
        return tags_of(row, column, example["words"])
    if task == "question_answering":
        return answers_of(row, column, example["text_pair"])
    return _LABELS[task](row, settings)


def text_of(row: Row, name: str) -> tuple[str, str | None]:
    value = row.values.get(name)
    if isinstance(value, (list, dict)):
        return "", f"column {name} holds a {type(value).__name__}, not a text"
    text = "" if _is_missing(value) else str(value)
    if has_half_characters(text):
        return "", f"column {name} holds {HALF_CHARACTER}"
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
    if has_half_characters(text):
        return None, f"column {name} holds {HALF_CHARACTER}"
    return (text, None) if text else (None, f"no label in column {name}")


def _several_labels(row: Row, settings: DataSettings) -> tuple[list[str] | None, str | None]:
    if isinstance(settings.label, list):
        return _indicator_labels(row, settings.label)
    assert settings.label is not None
    value = row.values.get(settings.label)
    if isinstance(value, str) and settings.label_separator:
        value = [part.strip() for part in value.split(settings.label_separator) if part.strip()]
    if _is_missing(value):
        return None, f"no labels in column {settings.label}"
    if not isinstance(value, list):
        return None, f"column {settings.label} holds text, not a list of labels; name its --data.label_separator"
    names = [_label_name(item) for item in value]
    if any(map(has_half_characters, names)):
        return None, f"column {settings.label} holds {HALF_CHARACTER}"
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


_LABELS: dict[Task, Callable[[Row, DataSettings], tuple[Any, str | None]]] = {
    "single_label_classification": _class_label,
    "multi_label_classification": _several_labels,
    "regression": _number,
}


def without_bad_rows(
    table: Dataset, source: Source | ImageSource, settings: SourceSettings | ImageDataSettings
) -> Dataset:
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
