"""What a data set's name means: `builtin:NAME`, a local file, folder or glob, or a Hub id.

`NAME#split` picks a split of a built-in or Hub data set (`train` without it).
"""

from __future__ import annotations

import glob
import hashlib
import importlib.resources
import itertools
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from hfscale import console
from hfscale.data.docstrings import docstring_files
from hfscale.data.parallel import IN_BRACES, parallel_rows
from hfscale.data.readers import KINDS, Row, file_kind, read_file
from hfscale.errors import DataError, did_you_mean
from hfscale.network import asking_hub
from hfscale.schemas import SourceSettings

BUILTINS = {"tickets": ("train", "test"), "docstrings": ("train",)}
"""Name -> its splits; files in the package, each with a card, but for the docstrings of installed packages."""


class Source(NamedTuple):
    """A data set that was found: local files, or a Hub id with a split."""

    name: str
    files: tuple[Path, ...] = ()
    hub_id: str | None = None
    split: str = "train"
    columns: tuple[str, ...] = ()
    """Of text files with the same lines the name of each, which is that of a column."""

    def fingerprint(self, settings: SourceSettings, most: int | None = None) -> str:
        """sha256 over the files' content; for the Hub, that of `datasets`, which follows the revision, or the revision
        itself where only the first `most` rows are taken."""
        if self.hub_id and most is not None:
            return f"{self.hub_id} {settings.subset} {self.split} {hub_revision(self.hub_id)}"
        if self.hub_id:
            return hub_table(self.hub_id, settings.subset, self.split)._fingerprint
        digest = hashlib.sha256()
        for path in self.files:
            digest.update(f"{path}\0{settings.encoding}\0".encode())
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def rows(self, settings: SourceSettings, most: int | None = None) -> Iterator[Row]:
        """All rows in order; of a Hub data set the first `most`, no more of it downloaded than they need."""
        if self.hub_id:
            yield from _hub_rows(self.hub_id, settings.subset, self.split, most)
        if self.columns:
            yield from parallel_rows(self.files, self.columns, settings)
            return
        for path in self.files:
            yield from read_file(path, settings)


def last_part(name: str) -> str:
    """A data set's or model's name as anyone may read it: of what is on this machine not the path."""
    return Path(name).name if is_local(name) else name


def is_local(name: str) -> bool:
    """True for a file, folder or glob; False for a built-in or a Hub id."""
    plain = name.partition("#")[0]
    return not name.startswith("builtin:") and (looks_like_file(plain) or Path(name).expanduser().exists())


def find_source(name: str, corpus: bool = False) -> Source:
    """Resolve a data set's name without reading it; a `corpus` takes a folder's subfolders too.

    Raises:
        DataError: for a file, built-in or split that doesn't exist, with the nearest name that does.
    """
    plain, _, split = name.partition("#")
    if plain.startswith("builtin:"):
        return _builtin(name, plain.removeprefix("builtin:"), split or "train", corpus)
    path = Path(name).expanduser()
    if path.is_file():
        return Source(name, (path,))
    languages = IN_BRACES.search(name)
    if languages is not None:
        return _parallel(name, languages[1].split(","))
    if path.is_dir():
        files = _files_in(path, name, corpus)
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


def _parallel(name: str, columns: list[str]) -> Source:
    paths = [Path(IN_BRACES.sub(column, name)).expanduser() for column in columns]
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        raise DataError(f"no such file: {missing}, which {name} stands for")
    table = next((path for path in paths if file_kind(path) in set(KINDS) - {".txt"}), None)
    if table is not None:
        raise DataError(f"{name}: braces stand for text files with the same lines, and {table} is a table; name one")
    return Source(name, tuple(paths), columns=tuple(columns))


def _files_in(folder: Path, name: str, nested: bool) -> list[Path]:
    found = [path for path in (folder.rglob("*") if nested else folder.iterdir()) if path.is_file()]
    visible = [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    files = sorted(path for path in visible if file_kind(path) in KINDS)
    if not files:
        raise DataError(f"folder {name} holds no data file; known kinds are {', '.join(KINDS)}, plain or .gz")
    if len(files) < len(visible):
        first = min(set(visible) - set(files))
        console.warn(f"left out {len(visible) - len(files)} files of {name} of unknown kind; the first: {first.name}")
    return files


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


def _builtin(name: str, builtin: str, split: str, corpus: bool) -> Source:
    if builtin not in BUILTINS:
        raise DataError(f"no built-in data set {builtin}; there are {', '.join(BUILTINS)}")
    if split not in BUILTINS[builtin]:
        raise DataError(f"builtin:{builtin} has no split {split}; it has {', '.join(BUILTINS[builtin])}")
    if builtin == "docstrings":
        if not corpus:
            raise DataError("builtin:docstrings is text for pretraining and has no labels; builtin:tickets has")
        return Source(name, docstring_files())
    folder = importlib.resources.files("hfscale.data") / "builtin" / builtin
    return Source(name, (Path(str(folder)) / f"{split}.jsonl",))


def looks_like_file(name: str) -> bool:
    """True for what can't be a Hub id: a known ending, a leading `.`, `/` or `~`, or more than one slash."""
    return file_kind(Path(name)) in KINDS or not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name)


def hub_revision(hub_id: str) -> str:
    """Commit of a Hub data set's main branch."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        with asking_hub(f"data set {hub_id}"):
            return str(HfApi().dataset_info(hub_id).sha)
    except (OSError, HfHubHTTPError) as error:
        raise _unreachable(hub_id, error) from None


@lru_cache(maxsize=8)
def hub_table(hub_id: str, subset: str | None, split: str, streaming: bool = False) -> Any:
    import datasets
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    try:
        with asking_hub(f"data set {hub_id}"):
            table = datasets.load_dataset(hub_id, subset, split=split, streaming=streaming)
    except ValueError as error:  # an unknown split or configuration
        raise DataError(f"{hub_id}: {str(error).splitlines()[0]}; see --data.subset and NAME#split") from None
    except (OSError, DatasetNotFoundError, DatasetsError, RuntimeError) as error:
        raise _unreachable(hub_id, error) from None
    assert isinstance(table, datasets.IterableDataset if streaming else datasets.Dataset)
    return table


def _unreachable(hub_id: str, error: Exception) -> DataError:
    reason = str(error).splitlines()[0]
    return DataError(
        f"can't get {hub_id} from the Hub ({reason}); if it is a local file, check its path, else check the name, "
        "the network and `hf auth login`"
    )


def _hub_rows(hub_id: str, subset: str | None, split: str, most: int | None) -> Iterator[Row]:
    table = hub_table(hub_id, subset, split, streaming=most is not None)
    names = {name: _label_names(feature) for name, feature in (table.features or {}).items()}
    for number, values in enumerate(itertools.islice(table, most), start=1):
        yield Row(f"{hub_id} {split} row {number}", {k: _named(v, names.get(k)) for k, v in values.items()})


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
