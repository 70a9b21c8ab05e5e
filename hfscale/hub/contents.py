"""What of a run goes up to the Hub: the model with its card, the settings, the result and the learning curve.

Files are picked by name; nothing else leaves the machine. Settings and results are published as copies, in which the
path of a file is its name alone: where it was on this machine helps nobody, and names its user.
"""

from __future__ import annotations

import fnmatch
import json
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import yaml

from hfscale.data.image_sources import ENDINGS
from hfscale.data.readers import KINDS, file_kind
from hfscale.errors import HubError, ModelError
from hfscale.hub.data_card import dataset_card, source_files
from hfscale.hub.naming import named_card
from hfscale.network import quiet_client
from hfscale.schemas import HubSettings

CARD = "README.md"
RECORD = "push.json"
"""Where a push notes where to, in the folder that it pushed."""
_MODEL = (
    *("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "adapter_config.json"),
    *(
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.jinja",
    ),
    *("vocab.txt", "vocab.json", "merges.txt", "*.model", "preprocessor_config.json", "processor_config.json"),
    *("*.spm", "*.codes", "*.tokenizer", "*vocab*.json", "normalizer.json", "emoji.json", "dict.txt", "*.jinja"),
    *("*.onnx", "*.onnx.data", "*.py", "export.json", "prune.json", CARD),
)
WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "adapter_config.json", "*.onnx", "*.onnx.data")
WEIGHTS += ("export.json", "prune.json")
"""What a model is loaded from, and what tells how it was made of another."""
_BESIDE_DATA = (".md", ".txt", ".yaml", ".yml", ".conll", ".conllu", ".bio", ".arrow", ".pdf", ".bib", ".cff", "")
"""What may stand beside the rows: texts about them (`LICENSE`), formats that are no rows to us."""
_RUN = ("config.yaml", "result.json", "metrics.jsonl", "learning_curve.png")
_REPORTS = ("config.yaml", "result.json", "export.json", "prune.json")
"""What names the files that a run has read."""


class Published(NamedTuple):
    """A file as it goes up."""

    name: str
    """Its path in the repository."""
    path: Path
    """The file on this machine."""
    content: bytes | None = None
    """What goes up instead of the file's own bytes, if anything."""

    @property
    def num_bytes(self) -> int:
        return self.path.stat().st_size if self.content is None else len(self.content)


def published_files(run: Path, hub: HubSettings) -> list[Published]:
    """What goes up of a run folder, or of a model folder; its card under the repository's name, with what the settings
    say of the model.

    Raises:
        HubError: for a run that is not complete, a folder without a model, or a file in it that no model has.
    """
    from hfscale.runs import finished, model_folder_of, settings_of

    folder = model_folder_of(run)
    if settings_of(run) and not finished(run):
        raise ModelError(f"the run in {run} has not finished; the same command goes on with it")
    if not (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file():
        raise ModelError(f"{folder} holds no model")
    inside = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != RECORD]
    found = [_of_model(path, folder) for path in inside]
    if not any(file.name.endswith((".safetensors", ".onnx")) for file in found):
        raise ModelError(f"{folder} holds no weights in safetensors or ONNX")
    if folder != run:
        found += [Published(name, run / name) for name in _RUN if (run / name).is_file()]
    return [_as_published(file, hub) for file in found]


def data_files(source: Path, hub: HubSettings) -> list[Published]:
    """What goes up of a data set in a file, or in a folder: all that isn't hidden, and a card.

    Raises:
        DataError: as `dataset_card`.
    """
    folder = source.parent if source.is_file() else source
    card = dataset_card(source, hub.license, hub.language, repo_id=hub.repo_id)
    found = [Published(path.relative_to(folder).as_posix(), path) for path in source_files(source)]
    stray = next((file.path for file in found if not _is_data(file.path)), None)
    if stray is not None:
        raise HubError(f"{stray} is neither data nor a text about it, and so not for the Hub; move it out of {source}")
    own = source / CARD
    if not own.is_file():
        return [*found, Published(CARD, source, card.encode())]
    return [*found, Published(CARD, own, _named(own.read_text(encoding="utf-8"), hub, own).encode())]


def _is_data(path: Path) -> bool:
    return file_kind(path) in (*KINDS, *_BESIDE_DATA) or path.suffix.lower() in ENDINGS


def _of_model(path: Path, folder: Path) -> Published:
    name = path.relative_to(folder).as_posix()
    if not any(fnmatch.fnmatchcase(path.name, pattern) for pattern in _MODEL):
        raise HubError(f"{path}, line 1: no file of a model, and so not for the Hub; move it out of {folder}")
    return Published(name, path)


def _as_published(file: Published, hub: HubSettings) -> Published:
    if file.name in _REPORTS:
        text = file.path.read_text(encoding="utf-8")
        read, write = (json.loads, _json) if file.path.suffix == ".json" else (yaml.safe_load, _yaml)
        content = read(text)
        reduced = without_places(content)
        return file if reduced == content else file._replace(content=write(reduced).encode())
    if file.name == CARD:
        return file._replace(content=_named(file.path.read_text(encoding="utf-8"), hub, file.path).encode())
    return file


def _named(card: str, hub: HubSettings, path: Path) -> str:
    try:
        with quiet_client():  # which would warn of a text without metadata
            return named_card(card, hub.repo_id, hub.license, hub.language)
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise HubError(f"{path}: its metadata can't be read ({reason}); mend them, then push again") from None


def without_places(value: Any) -> Any:
    """The value with the name alone in place of every path from the root of a disk or of a home."""
    if isinstance(value, dict):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_places(item) for item in value]
    if isinstance(value, str) and "\n" not in value:
        path = PureWindowsPath(value) if PureWindowsPath(value).drive else PurePosixPath(value)
        if (path.is_absolute() or value.startswith("~")) and path.name:
            return path.name
    return value


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
