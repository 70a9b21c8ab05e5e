"""Checkpoints as files: what makes one valid, which there are, which may go. No torch: `hfscale doctor` is quick.

RUN/checkpoints/step-000500/
|-- model.safetensors         weights and buffers by name
|-- optimizer.safetensors     `KEY:WEIGHT`, as in `exp_avg:classifier.bias`
|-- random.json               the random generators of every process
|-- state.json                where in the run this is, and with which settings
`-- manifest.json             written last: size and sha256 of all the others

A folder without a valid manifest does not exist for a run that resumes.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import re
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from hfscale.files import remove_folder, replacing_folder, write_json

FORMAT = 1
"""Counts up with every change that an older hfscale could not read."""
_MANIFEST, _STATE = "manifest.json", "state.json"
_NAME = re.compile(r"(?:step|best)-(\d{6,})")
_PACKAGES = ("hfscale", "torch", "transformers", "accelerate", "numpy")


class Checkpoint(NamedTuple):
    """A checkpoint whose files are all there and unchanged."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.manifest["step"]

    @property
    def num_bytes(self) -> int:
        return sum(file["bytes"] for file in self.manifest["files"].values())

    def state(self) -> dict[str, Any]:
        """The content of `state.json`."""
        return json.loads((self.folder / _STATE).read_text(encoding="utf-8"))


class BrokenCheckpoint(Exception):
    """Why a folder is no checkpoint, in words that follow its name."""


def checkpoint_folder(run: Path, step: int) -> Path:
    """Where the checkpoint after `step` optimizer steps stands."""
    return run / "checkpoints" / f"step-{step:06d}"


def best_folder(run: Path, step: int) -> Path:
    """Where the model folder of the best evaluation stands, that of `step`."""
    return run / "checkpoints" / f"best-{step:06d}"


def checkpoint_folders(run: Path) -> list[Path]:
    """All that are called like checkpoints, valid or not, the newest first."""
    return _numbered(run, "step")


def best_folders(run: Path) -> list[Path]:
    """The model folders of best evaluations, the newest first."""
    return _numbered(run, "best")


def _numbered(run: Path, kind: str) -> list[Path]:
    found = [path for path in (run / "checkpoints").glob(f"{kind}-*") if step_of(path) is not None]
    return sorted(found, key=lambda path: step_of(path) or 0, reverse=True)


def step_of(folder: Path) -> int | None:
    """The number in a folder's name."""
    found = _NAME.fullmatch(folder.name)
    return int(found[1]) if found else None


@contextlib.contextmanager
def writing_checkpoint(
    folder: Path, state: dict[str, Any], facts: dict[str, Any], allowed: Callable[[], None]
) -> Generator[Path]:
    """Give a temporary folder for the tensors; when the block ends it becomes a valid checkpoint, or nothing.

    Args:
        state: what `state.json` is to hold.
        facts: what the manifest says beside its list of files: `step`, `epoch`, `best_step`.
        allowed: called right before the folder gets its name; raises where another process owns the run by now.
    """
    with replacing_folder(folder) as temporary:
        yield temporary
        write_json(temporary / _STATE, state)
        files = {
            path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in sorted(temporary.iterdir())
        }
        written = datetime.now(UTC).isoformat(timespec="seconds")
        manifest = {"format": FORMAT, **facts, "written": written, "versions": versions(), "files": files}
        write_json(temporary / _MANIFEST, {**manifest, "sha256": _digest(manifest)})
        allowed()


def versions() -> dict[str, str]:
    """Of the packages on which the bits of a run depend."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def read_checkpoint(folder: Path, with_content: bool = True) -> Checkpoint:
    """A checkpoint whose files were compared with its manifest, in size only unless `with_content`.

    Raises:
        BrokenCheckpoint: saying what is wrong with it.
    """
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] > FORMAT:
            raise BrokenCheckpoint(
                f"was written by a newer hfscale ({manifest['versions']['hfscale']}, format {manifest['format']})"
            )
        if manifest.pop("sha256") != _digest(manifest) or manifest["step"] != step_of(folder):
            raise BrokenCheckpoint(f"is damaged: {_MANIFEST} is not as it was written")
        for name, expected in manifest["files"].items():
            _compare(folder / name, expected, with_content)
    except FileNotFoundError:
        raise BrokenCheckpoint(f"has no {_MANIFEST}: it was not written to its end") from None
    except OSError as error:
        raise BrokenCheckpoint(f"can't be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BrokenCheckpoint(f"has a {_MANIFEST} that makes no sense") from None
    return Checkpoint(folder, manifest)


def _compare(path: Path, expected: dict[str, Any], with_content: bool) -> None:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise BrokenCheckpoint(f"has lost its {path.name}") from None
    if size != expected["bytes"]:
        raise BrokenCheckpoint(f"is damaged: {path.name} has {size:,} bytes instead of {expected['bytes']:,}")
    if with_content and _sha256(path) != expected["sha256"]:
        raise BrokenCheckpoint(f"is damaged: {path.name} has another sha256 than when it was written")


def valid_folders(run: Path) -> Iterator[Path]:
    """The checkpoints whose files have the right size, the newest first."""
    for folder in checkpoint_folders(run):
        with contextlib.suppress(BrokenCheckpoint):
            yield read_checkpoint(folder, with_content=False).folder


def newest_valid(run: Path) -> tuple[Checkpoint | None, dict[Path, str]]:
    """The newest valid checkpoint of a run, and why each newer one was passed over."""
    broken: dict[Path, str] = {}
    for folder in checkpoint_folders(run):
        try:
            return read_checkpoint(folder), broken
        except BrokenCheckpoint as reason:
            broken[folder] = str(reason)
    return None, broken


def remove_old_checkpoints(run: Path, keep: int, written: int) -> None:
    """Of those up to the step that was just `written`, and whose content was not read again, keep the newest `keep`.

    What is broken doesn't count, and goes when it is older. Later steps stay: they may be a newer hfscale's, and what
    is damaged in them would only be found by reading all of it.
    """
    valid = 0
    for folder in checkpoint_folders(run):
        if (step_of(folder) or 0) > written:
            continue
        if valid >= keep:
            remove_folder(folder)
            continue
        with contextlib.suppress(BrokenCheckpoint):
            read_checkpoint(folder, with_content=False)
            valid += 1


def remove_old_best(run: Path, best_step: int) -> None:
    """Remove the best models before `best_step` that no valid checkpoint refers to."""
    wanted: set[int | None] = {best_step}
    for folder in checkpoint_folders(run):
        with contextlib.suppress(BrokenCheckpoint):
            wanted.add(read_checkpoint(folder, with_content=False).manifest.get("best_step"))
    for folder in best_folders(run):
        if step_of(folder) not in wanted:
            remove_folder(folder)


def _digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
