"""Saving all that a run needs to go on as if nothing had happened, and going on from it."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from safetensors.torch import load_file

from hfscale import console, watchdog
from hfscale.errors import RunFolderError
from hfscale.training import fsdp
from hfscale.training.checkpoint_files import (
    BrokenCheckpoint,
    Checkpoint,
    checkpoint_folders,
    read_checkpoint,
    valid_folders,
)
from hfscale.training.checkpoint_writer import MODEL, OPTIMIZER, RANDOM, CheckpointWriter, RunFolder
from hfscale.training.state import (
    RandomState,
    Scalars,
    buffers_of,
    estimated_bytes,
    load_optimizer_state,
    load_tensors,
    optimizer_state,
    parameters_of,
)
from hfscale.training.zero import (
    gathered_state,
    is_sharded,
    load_gathered_state,
    load_whole_weights,
    shares_weights,
)

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor

    from hfscale.schemas import TrainSettings
    from hfscale.training.best import BestModel

_MINUTES = 10.0


class Volatile(NamedTuple):
    """What a forward pass changes: a step that is broken off goes back to it."""

    random: RandomState
    buffers: dict[str, Tensor]

    @classmethod
    def now(cls, model: torch.nn.Module) -> Volatile:
        """As it is."""
        return cls(RandomState.now(), {name: buffer.clone() for name, buffer in buffers_of(model).items()})


class Checkpoints:
    """Writes `checkpoints/step-NNNNNN/` of a run and reads them; a context, in which a write may go on meanwhile.

    Args:
        model: the bare model; its weights are the same tensors as those of the wrapped one.
        optimizer: torch's own, or DeepSpeed's around it.
        run: None for a run that keeps nothing.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: torch.nn.Module,
        optimizer: Any,
        run: RunFolder | None,
        train: TrainSettings,
    ) -> None:
        self._accelerator, self._model, self._optimizer = accelerator, model, optimizer
        self._run, self._train = run, train
        self._last_save = time.monotonic()
        self._writer: CheckpointWriter | None = None
        self._copies: dict[str, Tensor] = {}

    @property
    def kept(self) -> bool:
        """Whether there are any."""
        return self._run is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer:
            self._writer.finish(complain=error is None)

    @property
    def of_another_run(self) -> bool:
        """Whether the checkpoint to go on from is another run's, of which this one is a branch."""
        return self._run is not None and self.origin.resolve() != self._run.folder.resolve()

    @property
    def origin(self) -> Path:
        """Folder of the run whose checkpoint this one goes on from."""
        assert self._run is not None and self._run.checkpoint is not None
        return self._run.checkpoint.folder.parent.parent

    @property
    def changes(self) -> dict[str, list[Any]]:
        """Settings that change the mathematics from the checkpoint on, as [before, now]."""
        return self._run.changes if self._run else {}

    def versions_before(self) -> dict[str, str]:
        """Of the packages that wrote the checkpoint which this run goes on from."""
        assert self._run is not None and self._run.checkpoint is not None
        return self._run.checkpoint.manifest["versions"]

    def say_what_is_left(self, best: BestModel) -> None:
        """Where the work is that a run has done when it fails."""
        left = []
        newest = next(valid_folders(self._run.folder), None) if self._run is not None else None
        if newest is not None:
            left.append(f"the last checkpoint is {newest}, and the same command goes on from there")
        if best.step is not None:
            left.append(f"the best model so far (step {best.step}) is in {best.folder}")
        if left:
            console.warn(f"training did not end; {', '.join(left)}")

    def refuse_small_disk(self) -> None:
        """Ask for room for two checkpoints, the old and the new, beside the best and the final model.

        Raises:
            RunFolderError: with what there is and what it takes.
        """
        if self._run is None or not self._accelerator.is_main_process:
            return
        model, checkpoint = estimated_bytes(self._model, self._optimizer)
        need = (1 if checkpoint_folders(self._run.folder) else 2) * checkpoint + 2 * model
        free = shutil.disk_usage(self._run.folder).free
        if self._train.preflight:
            console.say(f"disk       {_size(need)} needed at most, {_size(free)} free")
        if free < need:
            raise RunFolderError(
                f"the disk of {self._run.folder} has {_size(free)} free; checkpoints ({_size(checkpoint)} each, two "
                f"at a time), the best and the final model take {_size(need)}; make room or choose another "
                "--train.output_dir"
            )

    def wished(self) -> bool:
        """Whether this process finds that it is time for a checkpoint; the first one's watch counts for all."""
        if self._run is None or self._train.save_steps:
            return False
        minutes = _MINUTES if self._train.save_minutes is None else self._train.save_minutes
        return self._accelerator.is_main_process and time.monotonic() - self._last_save >= 60 * minutes

    def due(self, step: int, wished: bool) -> bool:
        """Whether to save after this step, the same on every process."""
        if self._run is None:
            return False
        return step % self._train.save_steps == 0 if self._train.save_steps else wished

    def settle(self) -> None:
        """Wait until the weights may change: a write in the background has copied what it needs.

        Raises:
            Exception: what went wrong in the background.
        """
        if self._writer:
            self._writer.settle()
            if not self._writer.is_alive():
                self.join()

    def save(
        self, state: dict[str, Any], facts: dict[str, Any], before: Volatile | None = None, wait: bool = False
    ) -> None:
        """Write the checkpoint after `facts["step"]` steps; the oldest ones go when it is valid.

        Called by all processes. `before` stands in for the present random generators and buffers; `wait` forbids to
        write in the background.
        """
        if self._run is None:
            return
        self.join()
        start, now = time.perf_counter(), before or Volatile.now(self._model)
        random = self._gathered(now.random)
        scalars: Scalars = {}
        if is_sharded(self._accelerator):
            weights, moments = gathered_state(self._accelerator, self._model, self._optimizer)
        elif shares_weights(self._model):
            weights, moments, scalars = fsdp.gathered_state(self._accelerator, self._model, self._optimizer)
        else:
            weights = parameters_of(self._model)
            moments, scalars = optimizer_state(self._model, self._optimizer)
        if self._accelerator.is_main_process:
            background = self._train.save_in_background and not wait
            tensors = {MODEL: weights, OPTIMIZER: moments}
            writer = CheckpointWriter(
                self._run, self._train.keep_checkpoints, {**state, "optimizer": scalars}, facts, random
            )
            if background:
                self._writer = writer
                writer.begin(tensors, now.buffers, self._copies)
            else:
                writer.write({MODEL: {**weights, **now.buffers}, OPTIMIZER: moments})
                console.say(f"saved      checkpoint of step {facts['step']} in {time.perf_counter() - start:.1f} s")
        if wait:
            self._accelerator.wait_for_everyone()
        self._last_save = time.monotonic()
        watchdog.pet()

    def _gathered(self, random: RandomState) -> list[dict[str, Any]]:
        if self._accelerator.num_processes == 1:
            return [random.as_json()]
        from accelerate.utils import gather_object

        return gather_object([random.as_json()])

    def join(self) -> None:
        """Wait for the end of a write in the background.

        Raises:
            Exception: what went wrong there.
        """
        if self._writer:
            writer, self._writer = self._writer, None
            writer.finish(complain=True)

    def load(self) -> dict[str, Any] | None:
        """Put the run's checkpoint into model, optimizer and random generators; its state, or None without one.

        Raises:
            RunFolderError: where it does not fit the model, or this process does not see it.
        """
        checkpoint = self._run.checkpoint if self._run else None
        if checkpoint is None:
            return None
        try:
            read_checkpoint(checkpoint.folder, with_content=False)  # the first process has compared the content
        except BrokenCheckpoint as reason:
            raise RunFolderError(
                f"{checkpoint.folder} {reason}; the run folder must be on a file system that all machines share"
            ) from None
        state = checkpoint.state()
        weights, moments = load_file(checkpoint.folder / MODEL), load_file(checkpoint.folder / OPTIMIZER)
        try:
            if is_sharded(self._accelerator):
                load_gathered_state(self._accelerator, self._model, self._optimizer, weights, moments)
                load_tensors(buffers := buffers_of(self._model), {name: weights[name] for name in buffers})
            elif shares_weights(self._model):
                load_whole_weights(self._accelerator, self._model, weights)
                load_tensors(buffers := buffers_of(self._model), {name: weights[name] for name in buffers})
                fsdp.load_moments(self._model, self._optimizer, moments, state["optimizer"])
            else:
                load_tensors(parameters_of(self._model) | buffers_of(self._model), weights)
                load_optimizer_state(self._model, self._optimizer, moments, state["optimizer"])
        except (ValueError, KeyError) as names:
            raise RunFolderError(f"{checkpoint.folder} holds another model than this one: {names}") from None
        self._restore_random(checkpoint)
        return state

    def _restore_random(self, checkpoint: Checkpoint) -> None:
        """Give this process its generators back; one that was not there keeps those of its seed."""
        saved = json.loads((checkpoint.folder / RANDOM).read_text(encoding="utf-8"))
        if self._accelerator.process_index < len(saved):
            RandomState.from_json(saved[self._accelerator.process_index]).restore()


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 2**20:,.1f} MiB" if num_bytes < 2**30 else f"{num_bytes / 2**30:,.1f} GiB"
