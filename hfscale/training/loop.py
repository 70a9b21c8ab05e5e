"""The training loop."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from accelerate.utils import recursively_apply, send_to_device, set_seed
from torch.nn.attention import SDPBackend, sdpa_kernel

from hfscale import console
from hfscale.errors import DivergedError, SettingsError
from hfscale.training.best import BestModel, SaveFn
from hfscale.training.dropout import use_lane_dropout
from hfscale.training.journal import Journal
from hfscale.training.schedules import learning_rate, warmup_steps
from hfscale.training.step import train_step
from hfscale.training.throughput import Meter, flops_of, matmul_peak

if TYPE_CHECKING:
    from accelerate import Accelerator

    from hfscale.batch import Batch
    from hfscale.schemas import OptimSettings, TrainSettings
    from hfscale.training.losses import LossFn

EvaluateFn = Callable[[torch.nn.Module], dict[str, float]]
"""Metrics of a model on held-out examples, the same on every process; the first is the task's main one."""

_DEFAULT_EPOCHS = 3.0


class Batches(Protocol):
    """This process's micro-batches of every optimizer step (`hfscale.data.TrainBatches`)."""

    steps_per_epoch: int

    def __getitem__(self, step: int) -> list[Batch]: ...


class FitConfig(Protocol):
    """A recipe's settings."""

    @property
    def train(self) -> TrainSettings: ...

    @property
    def optim(self) -> OptimSettings: ...


class FitResult(NamedTuple):
    """What a run did."""

    steps: int
    epochs: float
    train_seconds: float
    """Seconds of training; evaluation, logging and saving left out."""
    samples_per_second: float
    tokens_per_second: float | None
    """Real tokens, padding left out; None for images."""
    matmul_peak_fraction: float | None
    """Share of the measured matrix-multiply peak that the model's own work reached; None where it can't be counted."""
    best_step: int | None
    """Step whose weights the model has now; None where nothing was evaluated."""
    stopped_early: bool


def fit(
    accelerator: Accelerator,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    loss_fn: LossFn,
    config: FitConfig,
    evaluate: EvaluateFn | None = None,
    save: SaveFn | None = None,
) -> FitResult:
    """Train `model` in place and leave it with its best weights (its last ones without `evaluate`).

    Appends to `metrics.jsonl` of the run folder, which must exist, and keeps the best model in `checkpoints/best/`
    through `save`, which `evaluate` needs. `step` counts optimizer steps throughout.

    Raises:
        DivergedError: where the loss or the gradient is not finite; says what to try.
        SettingsError: where a setting has no effect.
    """
    train, optim, run = config.train, config.optim, Path(config.train.output_dir)
    total_steps = num_steps(train, batches.steps_per_epoch)
    eval_every = _eval_every(train, batches.steps_per_epoch, evaluate)
    if warmup_steps(optim, total_steps) >= total_steps:
        console.warn(f"--optim.warmup_steps takes up all {total_steps} steps: the full rate is hardly reached")
    if accelerator.device.type == "cpu":
        use_lane_dropout(model)
    wrapped, wrapped_optimizer = accelerator.prepare(model, optimizer)
    set_seed(train.seed, device_specific=True)  # dropout differs between processes, and is the same in every run
    flops, peak = _measure(accelerator, model, batches, loss_fn)
    best, meter, step = BestModel(accelerator, model, save, run, train.best_metric), Meter(), 0
    wrapped.train()
    with Journal(accelerator, run, _flat(config), total_steps, meter, flops, peak) as journal, best.named_on_failure():
        meter.start()
        while step < total_steps and not _patience_is_over(best, train):
            lr = learning_rate(step, total_steps, optim)
            for group in wrapped_optimizer.param_groups:
                group["lr"] = lr
            try:
                stats = train_step(
                    accelerator, wrapped, wrapped_optimizer, batches[step], loss_fn, optim.max_grad_norm
                )
            except DivergedError as error:
                raise DivergedError(f"step {step + 1}: {error}; {_what_to_try(optim, lr)}") from None
            step += 1
            meter.add(stats.num_examples, stats.num_tokens)
            with meter.paused():
                evaluated: dict[str, float] = {}
                if evaluate and (step % eval_every == 0 or step == total_steps):
                    evaluated = evaluate(wrapped)
                    best.offer(step, evaluated)
                    wrapped.train()
                journal.advance(stats)
                if evaluated or step % train.log_steps == 0 or step in (1, total_steps):
                    journal.record(step, step / batches.steps_per_epoch, lr, stats, evaluated)
    best.restore(step)
    rate = meter.total()
    fraction = journal.peak_fraction(rate)
    return FitResult(step, step / batches.steps_per_epoch, *rate, fraction, best.step, step < total_steps)


def _flat(config: Any) -> dict[str, Any]:
    """Settings by dotted name; what a tracker can't show as it is, as text."""
    flat: dict[str, Any] = {}
    for name, value in vars(config).items():
        if dataclasses.is_dataclass(value):
            flat.update({f"{name}.{inner}": setting for inner, setting in _flat(value).items()})
        else:
            flat[name] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return flat


def num_steps(train: TrainSettings, steps_per_epoch: int) -> int:
    """Optimizer steps of the whole run."""
    if train.max_steps:
        return train.max_steps
    epochs = _DEFAULT_EPOCHS if train.epochs is None else train.epochs
    return max(1, math.ceil(epochs * steps_per_epoch))


def _eval_every(train: TrainSettings, steps_per_epoch: int, evaluate: EvaluateFn | None) -> int:
    if evaluate is None:
        for name in ("eval_steps", "best_metric", "early_stop"):
            if getattr(train, name) is not None:
                raise SettingsError(f"--train.{name} has no effect without validation examples; leave it out")
    return train.eval_steps or steps_per_epoch


def _patience_is_over(best: BestModel, train: TrainSettings) -> bool:
    over = train.early_stop is not None and best.evaluations_since >= train.early_stop
    if over:
        console.say(f"stopped early: nothing better in {train.early_stop} evaluations since step {best.step}")
    return over


def _what_to_try(optim: OptimSettings, lr: float) -> str:
    advice = [f"try --optim.lr {optim.lr / 4:.1e} (it was {lr:.1e} here)"]
    if not optim.warmup_steps:
        advice.append("--optim.warmup_steps 0.06")
    if optim.max_grad_norm is None:
        advice.append("--optim.max_grad_norm 1")
    return ", ".join(advice) + ", and look for broken rows in the data"


def _measure(
    accelerator: Accelerator, model: torch.nn.Module, batches: Batches, loss_fn: LossFn
) -> tuple[float, float]:
    """(floating point operations of training per token, or per example without tokens; peak per second of all).

    Counted on the forward pass of one example of middling length; the backward pass multiplies twice as many matrices.
    """
    some = [batches[step][0] for step in range(min(9, batches.steps_per_epoch))]
    middle = sorted(some, key=lambda batch: batch.num_tokens)[len(some) // 2]
    inputs: Any = send_to_device(recursively_apply(lambda tensor: tensor[:1], middle.inputs), accelerator.device)
    model.eval()  # so that counting draws no random numbers
    # The products of attention are counted where they are plain ones, which fused kernels are not.
    with torch.no_grad(), accelerator.autocast(), sdpa_kernel(SDPBackend.MATH):
        forward = flops_of(lambda: loss_fn(model, inputs))
    dtype = torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float32
    peak = torch.tensor(matmul_peak(accelerator.device, dtype), device=accelerator.device)
    total_peak = accelerator.reduce(peak, reduction="sum")
    units = inputs["input_ids"].numel() if middle.num_tokens else 1
    return 3 * forward / units, float(total_peak)  # type: ignore[arg-type]
