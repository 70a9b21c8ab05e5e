"""Keeping the model of the best evaluation, on disk."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

from accelerate.utils import broadcast
from safetensors.torch import load_model

from hfscale import console

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

SaveFn = Callable[[Path], None]
"""Writes the model as a folder that holds `model.safetensors`, whole or not at all."""

LOWER_IS_BETTER = {"loss", "mse", "bits_per_byte", "perplexity"}
"""Metrics of which less is more."""


class BestModel:
    """Writes `checkpoints/best/` of the run folder whenever an evaluation is better than all before it.

    Args:
        model: the bare model, not the one that `prepare` wrapped; its weights are the same tensors.
        save: called on the first process alone.
        metric: name of the deciding metric; None for the first that the evaluation returns.
    """

    def __init__(
        self, accelerator: Accelerator, model: torch.nn.Module, save: SaveFn | None, run: Path, metric: str | None
    ) -> None:
        self._accelerator, self._model, self._save, self._metric = accelerator, model, save, metric
        self._folder = run / "checkpoints" / "best"
        self.step: int | None = None
        self.value: float | None = None
        self.evaluations_since = 0

    def offer(self, step: int, metrics: dict[str, float]) -> bool:
        """Keep the model if it is better; returns whether it is. NaN is worse than any number."""
        name = self._metric or next(iter(metrics))
        value = -metrics[name] if name in LOWER_IS_BETTER else metrics[name]
        value = -math.inf if math.isnan(value) else value
        if self.value is not None and not value > self.value:
            self.evaluations_since += 1
            return False
        assert self._save is not None, "evaluation needs a way to save the best model"
        if self._accelerator.is_main_process:
            self._save(self._folder)
        self.step, self.value, self.evaluations_since = step, value, 0
        return True

    def restore(self, last_step: int) -> None:
        """Give the model its best weights back, unless they are its last ones anyway."""
        if self.step is None or self.step == last_step:
            return
        if self._accelerator.is_main_process:
            load_model(self._model, str(self._folder / "model.safetensors"))
        broadcast(list(self._model.state_dict().values()))  # other machines may not see this one's disk

    @contextlib.contextmanager
    def named_on_failure(self) -> Generator[None]:
        """Say where the best model is when training ends before its time."""
        try:
            yield
        except BaseException:
            if self.step is not None:
                console.warn(f"training did not end; the best model so far (step {self.step}) is in {self._folder}")
            raise
