"""Keeping the weights of the best evaluation, on disk."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import load_model, save_model

from hfscale.files import replacing_folder

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

_LOWER_IS_BETTER = {"loss", "mse"}


class BestModel:
    """Writes `checkpoints/best/` of the run folder whenever an evaluation is better than all before it.

    Args:
        model: the bare model, not the one that `prepare` wrapped; its weights are the same tensors.
        metric: name of the deciding metric; None for the first that the evaluation returns.
    """

    def __init__(self, accelerator: Accelerator, model: torch.nn.Module, run: Path, metric: str | None) -> None:
        self._accelerator, self._model, self._metric = accelerator, model, metric
        self._folder = run / "checkpoints" / "best"
        self.step: int | None = None
        self.value: float | None = None
        self.evaluations_since = 0

    def offer(self, step: int, metrics: dict[str, float]) -> bool:
        """Keep the weights if they are better; returns whether they are. NaN is worse than any number."""
        name = self._metric or next(iter(metrics))
        value = -metrics[name] if name in _LOWER_IS_BETTER else metrics[name]
        value = -math.inf if math.isnan(value) else value
        if self.value is not None and not value > self.value:
            self.evaluations_since += 1
            return False
        self.step, self.value, self.evaluations_since = step, value, 0
        if self._accelerator.is_main_process:
            with replacing_folder(self._folder) as temporary:
                save_model(self._model, str(temporary / "model.safetensors"))
        return True

    def restore(self, last_step: int) -> None:
        """Give the model its best weights back, unless they are its last ones anyway."""
        if self.step is None or self.step == last_step:
            return
        self._accelerator.wait_for_everyone()
        load_model(self._model, str(self._folder / "model.safetensors"))
