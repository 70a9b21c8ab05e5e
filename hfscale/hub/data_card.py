"""The card of a data set: what is in its files, counted, and what its owner says of it."""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import DatasetCardData

from hfscale.data.image_sources import ENDINGS
from hfscale.data.readers import KINDS, file_kind, read_file, text_lines
from hfscale.errors import DataError
from hfscale.hub.usage import PLACE
from hfscale.schemas import SourceSettings

_SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation"}
_SPLITS |= {"dev": "validation", "test": "test"}
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_SIZES += ((10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B"))
_TYPES = {str: "text", bool: "true or false", int: "integer", float: "number", list: "list", dict: "object"}
_MANY = 30  # values of a column, or files, that a card lists one by one
_LONGEST = 60  # characters of such a value


class _Column:
    """What the cells of a column are."""

    def __init__(self) -> None:
        self.types: Counter[str] = Counter()
        self.values: Counter[str] | None = Counter()
        """None where there are too many, or too long ones."""

    def add(self, value: Any) -> None:
        kind = "missing" if value is None or value == "" else _TYPES.get(type(value), type(value).__name__)
        self.types[kind] += 1
        if self.values is None or kind == "missing":
            return
        self.values[str(value)] += 1
        if kind not in ("text", "true or false") or len(str(value)) > _LONGEST or len(self.values) > _MANY:
            self.values = None


class _Table(NamedTuple):
    """A file of rows."""

    name: str
    """With its folders within the data set."""
    split: str | None
    rows: int
    columns: dict[str, _Column]
    at_once: bool
    """Whether `datasets` loads it by its name, and its separator."""
    separator: str | None
    """What stands between the cells of a csv file, where it is no comma."""


def dataset_card(
    source: Path,
    license: str | None = None,
    language: str | None = None,
    task_categories: list[str] | None = None,
    repo_id: str | None = None,
) -> str:
    """Text of the `README.md` for the data set in a file, or in a folder with its subfolders; hidden files and a
    `README.md` that is there are passed over. All rows are read once, none is held in memory.

    Args:
        license, language, task_categories: as the Hub spells them; nothing is said of what is not given.
        repo_id: where it will be on the Hub.

    Raises:
        DataError: for a source that doesn't exist or holds no data, and for a file that can't be read as its ending
            says; names file and line.
    """
    files = source_files(source)
    folder = source.parent if source.is_file() else source
    tables = [_read(path, path.relative_to(folder).as_posix()) for path in files if file_kind(path) in KINDS]
    images = [path.relative_to(folder) for path in files if path.suffix.lower() in ENDINGS]
    known = {folder / table.name for table in tables} | {folder / image for image in images}
    if not known:
        raise DataError(f"{source} holds no data file; known kinds are {', '.join((*KINDS, *ENDINGS))}, rows also .gz")
    rows = sum(table.rows for table in tables) or len(images)
    configs = _configs(tables) if not images else None
    metadata = DatasetCardData(
        language=language,
        license=license,
        task_categories=task_categories,
        size_categories=next((size for most, size in _SIZES if rows < most), "10B<n<100B"),
        configs=configs,
    )
    others = [path for path in files if path not in known]
    sections = [_about_tables(tables), _about_images(images), _about_others(others, folder)]
    usage = (
        f'```python\nfrom datasets import load_dataset\n\nprint(load_dataset("{repo_id or PLACE}"))\n```\n'
        if configs
        else ""
    )
    parts = [f"---\n{metadata.to_yaml()}\n---\n", f"# {(repo_id or source.resolve().name).rpartition('/')[2]}\n"]
    parts += ["## What is in it\n", *filter(None, sections)]
    parts += ["## Use\n", f"`pip install datasets`.\n\n{usage}"] if usage else []
    return "\n".join(parts)


def source_files(source: Path) -> list[Path]:
    """The file, or those of a folder and its subfolders that are not hidden, but for a `README.md`.

    Raises:
        DataError: where it doesn't exist.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise DataError(f"no such file or folder: {source}")
    found = sorted(path for path in source.rglob("*") if path.is_file())
    visible = [path for path in found if not any(part.startswith(".") for part in path.relative_to(source).parts)]
    return [path for path in visible if path != source / "README.md"]


def _read(path: Path, name: str) -> _Table:
    columns: dict[str, _Column] = {}
    rows = 0
    settings = SourceSettings(train=str(path))
    separator = _separator(path, settings.encoding) if file_kind(path) == ".csv" else None
    settings = dataclasses.replace(settings, delimiter=separator)
    for row in read_file(path, settings):
        rows += 1
        for column, value in row.values.items():
            columns.setdefault(column, _Column()).add(value)
    at_once = True
    if file_kind(path) == ".json":  # an object around the rows has to be named
        first = next((line.strip() for _, line in text_lines(path, settings.encoding) if line.strip()), "")
        at_once = first.startswith("[")
    return _Table(name, _SPLITS.get(path.name.split(".")[0].lower()), rows, columns, at_once, separator)


def _separator(path: Path, encoding: str) -> str | None:
    """The one that a header without a comma has, and the first row as often."""
    lines = (line.rstrip("\r\n") for _, line in text_lines(path, encoding) if line.strip())
    header, row = next(lines, ""), next(lines, None)
    found = [each for each in ",;\t|" if _num_cells(header, each) > 1]
    if len(found) != 1 or found == [","] or (row and _num_cells(row, found[0]) != _num_cells(header, found[0])):
        return None
    return found[0]


def _num_cells(line: str, separator: str) -> int:
    return len(next(csv.reader([line], delimiter=separator), []))


def _configs(tables: list[_Table]) -> list[dict[str, Any]] | None:
    """One configuration with a file for each split, where that is what the files are."""
    splits = [table.split for table in tables] if len(tables) > 1 else [tables[0].split or "train"] if tables else []
    alike = {(file_kind(Path(table.name)), tuple(table.columns), table.separator) for table in tables}
    if not splits or None in splits or len(set(splits)) < len(splits) or len(alike) > 1:
        return None
    if not all(table.at_once for table in tables):
        return None
    order = list(dict.fromkeys(_SPLITS.values()))  # in which `datasets` will name them, too
    named = sorted(zip(splits, tables, strict=True), key=lambda pair: order.index(str(pair[0])))
    files = [{"split": split, "path": table.name} for split, table in named]
    separator = tables[0].separator
    return [{"config_name": "default", "data_files": files, **({"sep": separator} if separator else {})}]


def _about_tables(tables: list[_Table]) -> str:
    if not tables:
        return ""
    lines = ["| file | rows | columns |", "| --- | --- | --- |"]
    lines += [f"| `{each.name}` | {each.rows:,} | {', '.join(f'`{c}`' for c in each.columns)} |" for each in tables]
    columns: dict[str, list[_Column]] = {}
    for table in tables:
        for name, column in table.columns.items():
            columns.setdefault(name, []).append(column)
    lines += ["", "| column | cells | values |", "| --- | --- | --- |"]
    for name, parts in columns.items():
        types = sum((part.types for part in parts), Counter[str]())
        cells = ", ".join(f"{number:,} {kind}" for kind, number in types.most_common())
        lines.append(f"| `{name}` | {cells} | {_values(parts)} |")
    return "\n".join(lines) + "\n"


def _values(parts: list[_Column]) -> str:
    """The values with their numbers, where they are few and come again."""
    if any(part.values is None for part in parts):
        return ""
    values = sum((part.values or Counter() for part in parts), Counter[str]())
    if len(values) > _MANY or 2 * len(values) > values.total():
        return ""
    return ", ".join(f"`{value}` {number:,}".replace("|", "\\|") for value, number in values.most_common())


def _about_images(images: list[Path]) -> str:
    if not images:
        return ""
    folders = Counter(image.parent.as_posix() for image in images)
    lines = [f"{len(images):,} images:\n", "| folder | images |", "| --- | --- |"]
    lines += [f"| `{folder}` | {number:,} |" for folder, number in list(folders.items())[:_MANY]]
    more = f"\n\n{len(folders) - _MANY:,} more folders are not listed." if len(folders) > _MANY else ""
    return "\n".join(lines) + more + "\n"


def _about_others(others: list[Path], folder: Path) -> str:
    if not others:
        return ""
    names = ", ".join(f"`{path.relative_to(folder).as_posix()}`" for path in others[:_MANY])
    more = f" and {len(others) - _MANY:,} more" if len(others) > _MANY else ""
    return f"Besides: {names}{more}.\n"
