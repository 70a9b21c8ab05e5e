"""Keeping the model of the best evaluation, on disk."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate.utils import broadcast
from safetensors.torch import load_file, load_model

from hfscale import console
from hfscale.training.checkpoint_files import best_folder, remove_old_best
from hfscale.training.state import adapter_names, buffers_of, is_adapted, load_tensors, parameters_of
from hfscale.training.zero import is_sharded, load_whole_weights, shares_weights, whole_weights

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

SaveFn = Callable[[Path, "dict[str, torch.Tensor] | None"], None]
"""Writes the model, or these weights of it, as a folder that holds `model.safetensors`, or PEFT's
`adapter_model.safetensors`, whole or not at all."""

LOWER_IS_BETTER = {"loss", "mse", "bits_per_byte", "perplexity"}
"""Metrics of which less is more."""


class BestModel:
    """Writes `checkpoints/best-NNNNNN/` of the run folder whenever an evaluation is better than all before it.

    The one before it stays as long as a checkpoint refers to it: a run that goes on from there needs it again.
    Of two evaluations with equal metrics the one with the lower `loss` is better; without a loss the earlier stays.
    `evaluations_since` counts those without a better metric, whatever the loss.

    Args:
        model: the bare model, not the one that `prepare` wrapped; its weights are the same tensors.
        save: called on the first process alone.
        metric: name of the deciding metric; None for the first that the evaluation returns.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: torch.nn.Module,
        save: SaveFn | None,
        run: Path,
        metric: str | None,
    ) -> None:
        self._accelerator, self._model, self._save = accelerator, model, save
        self._run, self._metric = run, metric
        self.step: int | None = None
        self.value: float | None = None
        self.loss: float | None = None
        self.evaluations_since = 0

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint; a value that is not finite as text, which JSON needs."""
        values = {"value": self.value, "loss": self.loss}
        as_json = {name: x if x is None or math.isfinite(x) else str(x) for name, x in values.items()}
        return {"step": self.step, **as_json, "evaluations_since": self.evaluations_since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Where the model folder is gone, the next evaluation counts as the best."""
        self.step, self.evaluations_since = state["step"], state["evaluations_since"]
        self.value = None if state["value"] is None else float(state["value"])
        loss = state.get("loss")  # checkpoints of earlier versions have none
        self.loss = None if loss is None else float(loss)
        if self.step is None:
            return
        if self._accelerator.is_main_process and not (self.folder / self._file).is_file():
            console.warn(f"the best model so far, {self.folder}, is gone; the next evaluation counts as the best")
            self.step = None
        if self._accelerator.num_processes > 1:
            from accelerate.utils import broadcast_object_list

            self.step = broadcast_object_list([self.step])[0]
        if self.step is None:
            self.value, self.loss, self.evaluations_since = None, None, 0

    @property
    def _file(self) -> str:
        return "adapter_model.safetensors" if is_adapted(self._model) else "model.safetensors"

    @property
    def folder(self) -> Path:
        """Of the best model so far."""
        assert self.step is not None, "nothing was evaluated yet"
        return best_folder(self._run, self.step)

    def offer(self, step: int, metrics: dict[str, float]) -> bool:
        """Keep the model if it is better; returns whether it is. NaN is worse than any number.

        No checkpoint must be in the making: it may refer to the model that goes.
        """
        name = self._metric or next(iter(metrics))
        value = -metrics[name] if name in LOWER_IS_BETTER else metrics[name]
        value = -math.inf if math.isnan(value) else value
        loss = metrics.get("loss")
        loss = math.inf if loss is not None and math.isnan(loss) else loss
        risen = self.value is None or value > self.value
        self.evaluations_since = 0 if risen else self.evaluations_since + 1
        lower = loss is not None and self.loss is not None and loss < self.loss
        if not risen and not (value == self.value and lower):
            return False
        assert self._save is not None, "evaluation needs a way to save the best model"
        self.step, self.value, self.loss = step, value, loss
        weights = whole_weights(self._accelerator, self._model)
        if self._accelerator.is_main_process:
            self._save(self.folder, weights)
            remove_old_best(self._run, self.step)
        return True

    def restore(self, last_step: int) -> None:
        """Give the model its best weights back, unless they are its last ones anyway."""
        if self.step is None or self.step == last_step:
            return
        path, is_main = self.folder / self._file, self._accelerator.is_main_process
        shares = shares_weights(self._model)
        if is_adapted(self._model):
            names, trained = adapter_names(self._model), parameters_of(self._model)
            weights = {names[key]: weight for key, weight in load_file(path).items()} if is_main else {}
            if shares or is_sharded(self._accelerator):
                load_whole_weights(self._accelerator, self._model, weights)
            elif is_main:
                load_tensors(trained, weights)
            broadcast([] if shares else list(trained.values()))
            return
        if shares or is_sharded(self._accelerator):
            weights, buffers = load_file(path) if is_main else {}, buffers_of(self._model)
            load_whole_weights(self._accelerator, self._model, weights)
            load_tensors(buffers if is_main else {}, {name: weights[name] for name in buffers if is_main})
        elif is_main:
            missing, unexpected = load_model(self._model, str(path), strict=False)
            computed = getattr(self._model, "_keys_to_ignore_on_save", None) or []  # a Marian's positions, say
            assert set(missing) <= set(computed) and not unexpected, f"{path} holds another model"
        # Other machines may not see this one's disk.
        broadcast(list((buffers_of(self._model) if shares else self._model.state_dict()).values()))
