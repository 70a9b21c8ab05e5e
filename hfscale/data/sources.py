"""What a data set's name means: `builtin:NAME`, a local file, folder or glob, or a Hub id.

`NAME#split` picks a split of a built-in or Hub data set (`train` without it).
"""

from __future__ import annotations

import glob
import hashlib
import importlib.resources
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hfscale.data.readers import KINDS, Row, file_kind, read_file
from hfscale.errors import DataError, did_you_mean
from hfscale.network import asking_hub
from hfscale.schemas import SourceSettings

if TYPE_CHECKING:
    from datasets import Dataset

BUILTINS = {"tickets": ("train", "test")}
"""Name -> its splits; the files lie in the package, each with a card."""


class Source(NamedTuple):
    """A data set that was found: local files, or a Hub id with a split."""

    name: str
    files: tuple[Path, ...] = ()
    hub_id: str | None = None
    split: str = "train"

    def fingerprint(self, settings: SourceSettings) -> str:
        """sha256 over the files' content; for the Hub, that of `datasets`, which follows the revision."""
        if self.hub_id:
            return _hub_table(self.hub_id, settings.subset, self.split)._fingerprint
        digest = hashlib.sha256()
        for path in self.files:
            digest.update(f"{path}\0{settings.encoding}\0".encode())
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def rows(self, settings: SourceSettings) -> Iterator[Row]:
        """All rows in order."""
        if self.hub_id:
            yield from _hub_rows(self.hub_id, settings.subset, self.split)
        for path in self.files:
            yield from read_file(path, settings)


def find_source(name: str) -> Source:
    """Resolve a data set's name without reading it.

    Raises:
        DataError: for a file, built-in or split that doesn't exist, with the nearest name that does.
    """
    plain, _, split = name.partition("#")
    if plain.startswith("builtin:"):
        return _builtin(name, plain.removeprefix("builtin:"), split or "train")
    path = Path(name).expanduser()
    if path.is_file():
        return Source(name, (path,))
    if path.is_dir():
        files = sorted(child for child in path.iterdir() if child.is_file() and file_kind(child) in KINDS)
        if not files:
            raise DataError(f"folder {name} holds no data file; known kinds are {', '.join(KINDS)}, plain or .gz")
        _refuse_several_splits(name, files)
        return Source(name, tuple(files))
    if any(character in name for character in "*?["):
        files = sorted(Path(found) for found in glob.glob(str(path)) if Path(found).is_file())
        if not files:
            raise DataError(f"no file matches {name}")
        return Source(name, tuple(files))
    if looks_like_file(plain):
        siblings = [str(path.parent / child.name) for child in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"no such file or folder: {name}{did_you_mean(str(path), siblings)}")
    return Source(name, hub_id=plain, split=split or "train")


def _refuse_several_splits(name: str, files: list[Path]) -> None:
    """A folder is read as one data set; one with train and test files side by side is not."""
    splits = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation"}
    splits |= {"dev": "validation", "test": "test"}
    found = {splits[stem]: path.name for path in files if (stem := path.name.split(".")[0].lower()) in splits}
    if len(found) > 1:
        raise DataError(
            f"folder {name} holds several splits ({', '.join(found.values())}); name them one by "
            "one with --data.train, --data.validation and --data.test"
        )


def _builtin(name: str, builtin: str, split: str) -> Source:
    if builtin not in BUILTINS:
        raise DataError(f"no built-in data set {builtin}; there are {', '.join(BUILTINS)}")
    if split not in BUILTINS[builtin]:
        raise DataError(f"builtin:{builtin} has no split {split}; it has {', '.join(BUILTINS[builtin])}")
    folder = importlib.resources.files("hfscale.data") / "builtin" / builtin
    return Source(name, (Path(str(folder)) / f"{split}.jsonl",))


def looks_like_file(name: str) -> bool:
    """True for what can't be a Hub id: a known ending, a leading `.`, `/` or `~`, or more than one slash."""
    return file_kind(Path(name)) in KINDS or not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name)


@lru_cache(maxsize=8)
def _hub_table(hub_id: str, subset: str | None, split: str) -> Dataset:
    import datasets
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    try:
        with asking_hub(f"data set {hub_id}"):
            table = datasets.load_dataset(hub_id, subset, split=split)
    except ValueError as error:  # an unknown split or configuration
        raise DataError(f"{hub_id}: {str(error).splitlines()[0]}; see --data.subset and NAME#split") from None
    except (OSError, DatasetNotFoundError, DatasetsError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"can't get {hub_id} from the Hub ({reason}); if it is a local file, check its path, else check the name, "
            "the network and `hf auth login`"
        ) from None
    assert isinstance(table, datasets.Dataset)
    return table


def _hub_rows(hub_id: str, subset: str | None, split: str) -> Iterator[Row]:
    table = _hub_table(hub_id, subset, split)
    names = {name: _label_names(feature) for name, feature in table.features.items()}
    values: dict[str, Any]
    for number, values in enumerate(table, start=1):  # type: ignore[assignment]
        yield Row(f"{hub_id} {split} row {number}", {k: _named(v, names[k]) for k, v in values.items()})


def _label_names(feature: Any) -> list[str] | None:
    feature = getattr(feature, "feature", feature)  # a list of labels
    return getattr(feature, "names", None)


def _named(value: Any, names: list[str] | None) -> Any:
    """A class number as its name; -1, the Hub's mark for a hidden label, as missing."""
    if names is None:
        return value
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    return None if value is None or value < 0 else names[value]
