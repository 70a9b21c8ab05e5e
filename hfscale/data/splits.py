"""Training, validation and test examples."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from hfscale import console
from hfscale.data.conll import is_conll
from hfscale.data.examples import load_examples
from hfscale.data.readers import file_kind
from hfscale.data.sources import BUILTINS, Source, find_source
from hfscale.errors import DataError, SettingsError
from hfscale.schemas import DataSettings, ImageDataSettings, SourceSettings, Task, with_columns

if TYPE_CHECKING:
    from datasets import Dataset


_DEFAULT_FRACTION = 0.1
_HASHED: dict[Task, str] = {"token_classification": "words", "question_answering": "text_pair"}
"""Whose copies must fall on the same side; of questions the context, for their answers stand in it."""


class Splits(NamedTuple):
    """Uniform tables of examples (see `hfscale.data.examples`)."""

    train: Dataset
    validation: Dataset | None
    test: Dataset | None

    @property
    def held_out(self) -> Dataset | None:
        """The examples to report on: those of `test`, else of `validation`."""
        return self.test or self.validation

    def map(self, function: Callable[[Dataset], Dataset]) -> Splits:
        """Apply `function` to each part that is there."""
        train, *others = (function(part) if part else None for part in self)
        assert train is not None
        return Splits(train, *others)


def load_splits(settings: DataSettings, task: Task) -> Splits:
    """Load what the settings name, and hold out a part of `train` where no validation source is given.

    Raises:
        DataError: for data that can't be read, or a held-out part that would be empty.
    """
    settings = with_columns(settings, task)
    test_name = settings.test or _own_test(settings.train)
    names = [name for name in (settings.train, settings.validation, test_name) if name]
    refuse_idle(settings, [find_source(name) for name in names], task)
    train = load_examples(settings.train, settings, task)
    if settings.validation:
        validation = load_examples(settings.validation, settings, task)
    else:
        train, validation = hold_out(
            train, (f"{text}".encode() for text in train[_HASHED.get(task, "text")]), settings
        )
    test = load_examples(test_name, settings, task) if test_name else None
    sizes = [f"{len(train):,} training"]
    sizes += [f"{len(validation):,} validation"] if validation else []
    sizes += [f"{len(test):,} test"] if test else []
    console.say(f"data       {settings.train}: {', '.join(sizes)} examples")
    return Splits(train, validation, test)


def refuse_idle(settings: SourceSettings, sources: list[Source], task: Task | None = None) -> None:
    """Refuse settings that no source heeds, read for `task`."""
    paths = [path for source in sources for path in source.files]
    tagged = task == "token_classification"
    kinds = {"conll" if tagged and is_conll(path) else file_kind(path) for path in paths}
    quoted, text = kinds & {".csv", ".tsv"}, kinds - {".parquet"}
    delimited = quoted | kinds & {"conll"}
    idle = {
        "columns": settings.columns is not None and not delimited,
        "delimiter": settings.delimiter is not None and not delimited,
        "quoting": not settings.quoting and not quoted,
        "encoding": settings.encoding != "utf-8" and not text,
        "subset": settings.subset is not None and not any(source.hub_id for source in sources),
    }
    for name in (name for name, is_idle in idle.items() if is_idle):
        read = ", ".join(source.name for source in sources)
        raise SettingsError(f"--data.{name} has no effect on {read}; leave it out")


def _own_test(train: str) -> str | None:
    """A built-in named without a split brings its test split along."""
    name = train.removeprefix("builtin:")
    return f"{train}#test" if train.startswith("builtin:") and "test" in BUILTINS.get(name, ()) else None


def hold_out(
    table: Dataset, contents: Iterable[bytes], settings: DataSettings | ImageDataSettings
) -> tuple[Dataset, Dataset | None]:
    """Split by a hash of each row's content: exact copies fall on the same side, and new rows move no old one.

    A row whose label no kept row has stays in training: it could only be refused as unknown.
    """
    fraction = _DEFAULT_FRACTION if settings.validation_fraction is None else settings.validation_fraction
    if not fraction:
        return table, None
    below = fraction * 2**64
    held: list[int] = []
    kept: list[int] = []
    for row, content in enumerate(contents):
        digest = hashlib.blake2b(f"{settings.split_seed}\0".encode() + content, digest_size=8).digest()
        (held if int.from_bytes(digest) < below else kept).append(row)
    labels = [_names_of(label) for label in table["label"]]
    learned = set[str]().union(*(labels[row] for row in kept))
    stray = {row for row in held if not labels[row] <= learned}
    held, kept = [row for row in held if row not in stray], sorted([*kept, *stray])
    if stray and not held:
        raise DataError(
            f"{settings.train}: nearly every row has a label of its own ({len(set().union(*labels)):,} labels in "
            f"{len(table):,} rows); is --data.label {settings.label} the right column?"
        )
    if not held or not kept:
        raise DataError(
            f"{settings.train}: holding out {fraction:.0%} of {len(table):,} rows leaves an empty "
            "part; give --data.validation or another --data.validation_fraction"
        )
    return table.select(kept), table.select(held)


def _names_of(label: str | list[str] | float) -> set[str]:
    """Class names of one row; none for a regression."""
    return {label} if isinstance(label, str) else set(label) if isinstance(label, list) else set()
