"""What a run says while it goes on: metrics.jsonl, trackers, a progress bar on a terminal, plain lines in a log."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tqdm import tqdm

from hfscale import console
from hfscale.files import naming, sync

if TYPE_CHECKING:
    from accelerate import Accelerator

    from hfscale.training.progress import Progress
    from hfscale.training.step import StepStats
    from hfscale.training.throughput import Rate

_SHOWN = (bool, int, float, str)  # what trackers take as it is


class Journal:
    """Records of a run; only the first process writes.

    Args:
        settings: all settings by dotted name, for the trackers.
        progress: where the run is; what stands in `metrics.jsonl` behind that place is taken back.
        flops, peak_flops: see `hfscale.training.throughput.Speed`.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        run: Path,
        settings: dict[str, Any],
        progress: Progress,
        flops: float,
        peak_flops: float,
    ) -> None:
        self._accelerator, self._meter, self._total = accelerator, progress.meter, progress.total_steps
        self._settings, self._progress = settings, progress
        self._flops, self._peak = flops, peak_flops
        self._path = run / "metrics.jsonl"
        self._bar: Any = None

    def __enter__(self) -> Self:
        if self._accelerator.is_main_process and self._path.exists():
            self._cut()
        shown = {name: value if isinstance(value, _SHOWN) else str(value) for name, value in self._settings.items()}
        self._accelerator.init_trackers("hfscale", config=shown, init_kwargs=self._tracker_options())
        hidden = not (self._accelerator.is_main_process and console.is_terminal())
        self._bar = tqdm(
            total=self._total,
            initial=self._progress.step,
            desc="training",
            unit="step",
            disable=hidden,
            dynamic_ncols=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def _tracker_options(self) -> dict[str, Any]:
        """What makes each tracker go on with its curves instead of beginning new ones."""
        return {
            "tensorboard": {"purge_step": self._progress.step + 1},
            "trackio": {"name": self._progress.tracker_run, "resume": "allow"},
            "wandb": {"id": self._progress.tracker_run, "resume": "allow"},
        }

    def _cut(self) -> None:
        """Take back the lines since the checkpoint: those steps are made, and written, once more."""
        kept = self._path.read_bytes()[: self._progress.metrics_bytes]
        if len(kept) < self._progress.metrics_bytes:
            console.warn(f"{self._path} has lost some lines before the checkpoint")
        with open(self._path, "r+b") as file:
            file.truncate(kept.rfind(b"\n") + 1)

    def sync(self) -> int:
        """Wait until the disk has what was written; returns the length of `metrics.jsonl`."""
        if not (self._accelerator.is_main_process and self._path.exists()):
            return 0
        sync(self._path)
        return self._path.stat().st_size

    def peak_fraction(self, rate: Rate) -> float | None:
        """Share of the measured matrix-multiply peak that training on real tokens uses; None where not countable."""
        per_second = rate.samples_per_second if rate.tokens_per_second is None else rate.tokens_per_second
        return per_second * self._flops / self._peak if self._flops else None

    def advance(self, stats: StepStats) -> None:
        """Move the progress bar by one step."""
        self._bar.set_postfix(loss=f"{stats.loss:.4f}", refresh=False)
        self._bar.update()

    def record(self, step: int, epoch: float, lr: float, stats: StepStats, evaluated: dict[str, float]) -> None:
        """Write one object for the step, and say it in a line. Losses keep all their digits."""
        rate = self._meter.lap()
        values = {
            "step": step,
            "epoch": epoch,
            "loss": stats.loss,
            "lr": lr,
            "grad_norm": stats.grad_norm,
            "samples_per_second": rate.samples_per_second,
            "tokens_per_second": rate.tokens_per_second,
            "matmul_peak_fraction": self.peak_fraction(rate),
            **{f"eval_{name}": value for name, value in evaluated.items()},
        }
        if self._accelerator.is_main_process:
            _append(self._path, {name: _finite(value) for name, value in values.items()})
        measured = {name: value for name, value in values.items() if name != "step" and value is not None}
        self._accelerator.log(measured, step=step)
        line = (
            f"step {step:>{len(str(self._total))}}/{self._total}  loss {stats.loss:.4f}  lr {lr:.2e}  grad norm "
            f"{stats.grad_norm:.2f}  {rate.samples_per_second:,.1f} samples/s"
        )
        line += "" if rate.tokens_per_second is None else f"  {rate.tokens_per_second:,.0f} tokens/s"
        console.say(line + "".join(f"  eval {name} {value:.4f}" for name, value in evaluated.items()))


def _finite(value: float | None) -> float | None:
    """JSON has no NaN."""
    return value if value is not None and math.isfinite(value) else None


def _append(path: Path, values: dict[str, Any]) -> None:
    """Add one line, or none: a line cut off by a full disk is taken back."""
    before = path.stat().st_size if path.exists() else 0
    try:
        with naming(path), open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
    except OSError:
        if path.exists():
            with open(path, "r+b") as file:
                file.truncate(before)
        raise
