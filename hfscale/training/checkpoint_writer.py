"""Writing one checkpoint, at once or while training goes on."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from safetensors.torch import save_file

from hfscale import console, watchdog
from hfscale.files import write_json
from hfscale.training.checkpoint_files import Checkpoint, checkpoint_folder, remove_old_checkpoints, writing_checkpoint

if TYPE_CHECKING:
    from torch import Tensor

MODEL, OPTIMIZER, RANDOM = "model.safetensors", "optimizer.safetensors", "random.json"


class RunFolder(Protocol):
    """Where a run is kept (`hfscale.runs.Run`)."""

    folder: Path
    settings: dict[str, Any]
    """By dotted name; those of a checkpoint are compared with them."""
    checkpoint: Checkpoint | None
    """What to go on from."""
    changes: dict[str, list[Any]]
    """Settings that change the mathematics from there on, as [before, now]."""

    def still_ours(self) -> None:
        """Raises `RunFolderError` where another process has taken the run over."""
        ...


class CheckpointWriter(threading.Thread):
    """Writes one checkpoint, here or in the background. It exchanges nothing with other processes: no thread may."""

    def __init__(
        self, run: RunFolder, keep: int, state: dict[str, Any], facts: dict[str, Any], random: list[dict[str, Any]]
    ) -> None:
        super().__init__(name="checkpoint", daemon=True)
        self._run, self._keep, self._state, self._facts, self._random = run, keep, state, facts, random
        self._copied = threading.Event()
        self._error: BaseException | None = None

    def write(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Write files of tensors by name, and let the oldest checkpoints go."""
        self._run.still_ours()
        folder = checkpoint_folder(self._run.folder, self._facts["step"])
        with writing_checkpoint(folder, self._state, self._facts, self._run.still_ours) as temporary:
            for name, content in tensors.items():
                save_file({key: tensor.contiguous() for key, tensor in content.items()}, temporary / name)
                watchdog.pet()
            write_json(temporary / RANDOM, self._random)
        remove_old_checkpoints(self._run.folder, self._keep, self._facts["step"])

    def begin(self, live: dict[str, dict[str, Tensor]], buffers: dict[str, Tensor], copies: dict[str, Tensor]) -> None:
        """Write in the background. The live tensors are copied there, into `copies`, while they don't change: until
        the next update, before which `settle` waits."""
        self._live, self._buffers, self._copies = live, buffers, copies
        self.start()

    def run(self) -> None:
        try:
            tensors = {
                file: {name: self._copy(f"{file}/{name}", tensor) for name, tensor in content.items()}
                for file, content in self._live.items()
            }
            self._copied.set()
            tensors[MODEL] |= self._buffers
            self.write(tensors)
        except BaseException as error:
            self._error = error
        finally:
            self._copied.set()

    def _copy(self, name: str, tensor: Tensor) -> Tensor:
        held = self._copies.get(name)
        if held is None or held.shape != tensor.shape or held.dtype != tensor.dtype:
            held = self._copies[name] = torch.empty(tensor.shape, dtype=tensor.dtype)
        return held.copy_(tensor)

    def settle(self) -> None:
        self._copied.wait()

    def finish(self, complain: bool) -> None:
        """Wait for the end; raise what went wrong, or only say it."""
        self.join()
        if self._error is not None and complain:
            raise self._error
        if self._error is not None:
            console.warn(f"the last checkpoint was not written: {self._error}")
