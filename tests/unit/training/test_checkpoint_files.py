"""What makes a folder a checkpoint, and which of them may go."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hfscale.errors import RunFolderError
from hfscale.training.checkpoint_files import (
    BrokenCheckpoint,
    best_folder,
    checkpoint_folder,
    newest_valid,
    read_checkpoint,
    remove_old_best,
    remove_old_checkpoints,
    writing_checkpoint,
)


def write(run: Path, step: int, best_step: int | None = None) -> Path:
    folder = checkpoint_folder(run, step)
    with writing_checkpoint(folder, {"step": step}, {"step": step, "best_step": best_step}, lambda: None) as temporary:
        (temporary / "model.safetensors").write_bytes(b"\1\2\3\4" * 100)
        (temporary / "random.json").write_text("[]")
    return folder


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_a_checkpoint_is_what_was_written(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write(tmp_path, 500, best_step=400))
    assert (checkpoint.step, checkpoint.manifest["best_step"], checkpoint.state()) == (500, 400, {"step": 500})
    assert set(checkpoint.manifest["files"]) == {"model.safetensors", "random.json", "state.json"}
    assert checkpoint.num_bytes == sum(
        path.stat().st_size for path in checkpoint.folder.iterdir() if path.name != "manifest.json"
    )
    assert {"torch", "transformers"} <= set(checkpoint.manifest["versions"])
    assert names(tmp_path) == ["step-000500"]


def flip(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)


def newer(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["format"], manifest["versions"]["hfscale"], manifest["files"] = 99, "7.0", "elsewhere"
    (folder / "manifest.json").write_text(json.dumps(manifest))


def rewrite(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))


def no_file(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").mkdir()


DAMAGE = {
    "a flipped byte": (flip, "is damaged: model.safetensors has another sha256"),
    "a truncated file": (
        lambda folder: os.truncate(folder / "model.safetensors", 399),
        "is damaged: model.safetensors has 399 bytes instead of 400",
    ),
    "a missing file": (lambda folder: (folder / "random.json").unlink(), "has lost its random.json"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "has no manifest.json"),
    "half a manifest": (
        lambda folder: os.truncate(folder / "manifest.json", 100),
        "has a manifest.json that makes no sense",
    ),
    "another kind of manifest": (lambda folder: (folder / "manifest.json").write_text("[1]"), "makes no sense"),
    "a flipped digit in the manifest": (
        lambda folder: rewrite(folder / "manifest.json", '"best_step": null', '"best_step": 4'),
        "is damaged: manifest.json is not as it was written",
    ),
    "a newer version": (newer, "was written by a newer hfscale (7.0, format 99)"),
    "what can't be read": (no_file, "can't be read: Is a directory"),
}


@pytest.mark.parametrize("kind", list(DAMAGE))
def test_damage_is_named_and_the_one_before_taken(tmp_path: Path, kind: str) -> None:
    write(tmp_path, 100)
    folder = write(tmp_path, 200)
    damage, words = DAMAGE[kind]
    damage(folder)
    with pytest.raises(BrokenCheckpoint) as caught:
        read_checkpoint(folder)
    assert words in str(caught.value)
    found, broken = newest_valid(tmp_path)
    assert found is not None and found.step == 100
    assert list(broken) == [folder] and words in broken[folder]


def test_a_folder_without_permission(tmp_path: Path) -> None:
    folder = write(tmp_path, 200)
    folder.chmod(0)
    if os.access(folder, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(BrokenCheckpoint, match="can't be read: Permission denied"):
        read_checkpoint(folder)
    folder.chmod(0o755)


def test_nothing_is_left_of_one_that_failed(tmp_path: Path) -> None:
    write(tmp_path, 100)
    folder = checkpoint_folder(tmp_path, 200)
    with (
        pytest.raises(RuntimeError),
        writing_checkpoint(folder, {}, {"step": 200, "best_step": None}, lambda: None) as temporary,
    ):
        (temporary / "model.safetensors").write_bytes(b"half")
        raise RuntimeError
    assert names(tmp_path) == ["step-000100"]


def test_one_whose_run_was_taken_over_gets_no_name(tmp_path: Path) -> None:
    def lost() -> None:
        raise RunFolderError("taken over")

    with (
        pytest.raises(RunFolderError),
        writing_checkpoint(checkpoint_folder(tmp_path, 1), {}, {"step": 1, "best_step": None}, lost),
    ):
        pass
    assert names(tmp_path) == []


def test_the_newest_stay(tmp_path: Path) -> None:
    for step in (100, 200, 300, 1_000_000):
        write(tmp_path, step)
    remove_old_checkpoints(tmp_path, 2, 1_000_000)
    assert names(tmp_path) == ["step-000300", "step-1000000"]


def test_what_was_just_written_stays(tmp_path: Path) -> None:
    """The newer one is damaged in a way that only its content shows: it was passed over when the run went on."""
    write(tmp_path, 400)
    flip(write(tmp_path, 500))
    write(tmp_path, 450)
    remove_old_checkpoints(tmp_path, 1, 450)
    assert names(tmp_path) == ["step-000450", "step-000500"]
    found, _ = newest_valid(tmp_path)
    assert found is not None and found.step == 450


def test_what_a_person_put_beside_them_stays(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "step-backup-000100").mkdir(parents=True)
    for step in (200, 300):
        write(tmp_path, step)
    remove_old_checkpoints(tmp_path, 1, 300)
    assert names(tmp_path) == ["step-000300", "step-backup-000100"]


def test_a_broken_one_takes_no_valid_ones_place(tmp_path: Path) -> None:
    for step in (100, 200, 300):
        write(tmp_path, step)
    (checkpoint_folder(tmp_path, 300) / "random.json").write_text("[1, 2]")
    remove_old_checkpoints(tmp_path, 1, 300)
    assert names(tmp_path) == ["step-000200", "step-000300"]
    write(tmp_path, 400)
    remove_old_checkpoints(tmp_path, 1, 400)
    assert names(tmp_path) == ["step-000400"]


def test_best_models_stay_as_long_as_a_checkpoint_needs_them(tmp_path: Path) -> None:
    for best in (100, 150, 250):
        best_folder(tmp_path, best).mkdir(parents=True)
    write(tmp_path, 200, best_step=150)
    write(tmp_path, 300, best_step=250)
    remove_old_best(tmp_path, 250)
    assert names(tmp_path) == ["best-000150", "best-000250", "step-000200", "step-000300"]
    remove_old_checkpoints(tmp_path, 1, 300)
    remove_old_best(tmp_path, 250)
    assert names(tmp_path) == ["best-000250", "step-000300"]
