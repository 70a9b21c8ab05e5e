"""The training loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from accelerate.utils import set_seed

from hfscale import console, interruption
from hfscale.config import flat_settings
from hfscale.errors import DivergedError, Interrupted, SettingsError
from hfscale.training import fsdp, zero
from hfscale.training.activation_checkpointing import checkpoint_activations
from hfscale.training.best import BestModel, SaveFn
from hfscale.training.checkpoint_files import checkpoint_folder
from hfscale.training.checkpoint_writer import RunFolder
from hfscale.training.checkpoints import Checkpoints, Volatile
from hfscale.training.communication import CommunicationProbe
from hfscale.training.dropout import use_lane_dropout
from hfscale.training.fit_result import FitResult
from hfscale.training.journal import Journal
from hfscale.training.progress import Progress
from hfscale.training.schedules import learning_rate, num_steps, warmup_steps
from hfscale.training.step import StepStats, train_step
from hfscale.training.throughput import Speed, measure
from hfscale.watchdog import watching

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

    from hfscale.batch import Batch
    from hfscale.schemas import OptimSettings, TrainSettings
    from hfscale.training.losses import LossFn

EvaluateFn = Callable[[torch.nn.Module], dict[str, float]]
"""Metrics of a model on held-out examples, the same on every process; the first is the task's main one."""


class Batches(Protocol):
    """This process's micro-batches of every optimizer step (`hfscale.data.TrainBatches`)."""

    steps_per_epoch: int

    @property
    def fingerprint(self) -> str:
        """Of the training examples."""
        ...

    def __getitem__(self, step: int) -> list[Batch]: ...


class FitConfig(Protocol):
    """A recipe's settings."""

    @property
    def train(self) -> TrainSettings: ...

    @property
    def optim(self) -> OptimSettings: ...


def fit(
    accelerator: Accelerator,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    loss_fn: LossFn,
    config: FitConfig,
    evaluate: EvaluateFn | None = None,
    save: SaveFn | None = None,
    run: RunFolder | None = None,
) -> FitResult:
    """Train `model` in place and leave it with its best weights (its last ones without `evaluate`).

    Appends to `metrics.jsonl` of the run folder, which must exist, keeps the best model in `checkpoints/best-*/` and
    writes the final one to `model/`, both through `save`, which `evaluate` needs. `step` counts optimizer steps
    throughout. Without `run` there are no checkpoints and no `model/`; with it the run goes on from its checkpoint, if
    it has one, and ends with the same bits as one that was never stopped.

    Raises:
        DivergedError: where the loss or the gradient is not finite; says what to try.
        Interrupted: where the run was told to stop; it is saved.
        RunFolderError: where the disk is too small, or another process has taken the run over.
        SettingsError: where a setting has no effect.
    """
    train, folder = config.train, Path(config.train.output_dir)
    total_steps = num_steps(train, batches.steps_per_epoch)
    eval_every = _eval_every(train, batches.steps_per_epoch, evaluate)
    if warmup_steps(config.optim, total_steps) >= total_steps:
        console.warn(f"--optim.warmup_steps takes up all {total_steps} steps: the full rate is hardly reached")
    wrapped, wrapped_optimizer, speed = _prepare(accelerator, model, optimizer, batches, loss_fn, config)
    settings = run.settings if run else flat_settings(config)
    facts = {"settings": settings, "num_processes": accelerator.num_processes, "data": run and batches.fingerprint}
    best = BestModel(accelerator, model, save, folder, train.best_metric)
    progress = Progress(total_steps, best, facts)
    checkpoints = Checkpoints(accelerator, model, wrapped_optimizer.optimizer, run, train)
    checkpoints.refuse_small_disk()
    progress.restore(checkpoints, train)
    journal = Journal(accelerator, folder, settings, progress, *speed)
    loop = _Loop(
        accelerator, model, wrapped, wrapped_optimizer, batches, loss_fn, config, evaluate, eval_every, progress,
        checkpoints, journal, probe := CommunicationProbe(accelerator),
    )  # fmt: skip
    with journal, checkpoints, watching(train.stall_seconds), interruption.deferred():
        loop.run()
    best.restore(progress.step)
    if run and save:
        weights = zero.whole_weights(accelerator, model)
        if accelerator.is_main_process:
            save(run.folder / "model", weights)
    rate, done = progress.meter.total(), progress.step
    return FitResult(
        done, done / batches.steps_per_epoch, *rate, rate.samples_per_second / accelerator.num_processes,
        probe.result(), journal.peak_fraction(rate), best.step, done < total_steps,
        progress.resumed_from, progress.changes,
    )  # fmt: skip


def _prepare(
    accelerator: Accelerator,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    loss_fn: LossFn,
    config: FitConfig,
) -> tuple[torch.nn.Module, AcceleratedOptimizer, Speed]:
    """Model and optimizer as the processes share them, random generators at their start, and the machine's speed."""
    train, sharded = config.train, zero.is_sharded(accelerator)
    if accelerator.device.type == "cpu":
        use_lane_dropout(model)
    if train.activation_checkpointing:
        checkpoint_activations(model)
    if sharded:
        zero.configure(accelerator, model, config.optim, train.micro_batch_size or train.global_batch_size)
        zero.share_weights(accelerator, model)
    fsdp.configure(accelerator, model)
    wrapped, wrapped_optimizer = accelerator.prepare(model, optimizer)
    if sharded:
        zero.share_output_layer(model)
    set_seed(train.seed, device_specific=True)  # dropout differs between processes, and is the same in every run
    return wrapped, wrapped_optimizer, measure(accelerator, wrapped, batches, loss_fn)


@dataclass
class _Loop:
    """Step after step until the end, the limit of patience, or a signal."""

    accelerator: Accelerator
    model: torch.nn.Module
    wrapped: torch.nn.Module
    optimizer: AcceleratedOptimizer
    batches: Batches
    loss_fn: LossFn
    config: FitConfig
    evaluate: EvaluateFn | None
    eval_every: int
    progress: Progress
    checkpoints: Checkpoints
    journal: Journal
    probe: CommunicationProbe
    saved: tuple[int, StepStats | None] | None = None
    """Step of the newest checkpoint, and what it says of a step that is not recorded yet."""
    before_step: Volatile | None = None
    """What the step that is being made has changed already, as it was before."""

    def run(self) -> None:
        self.wrapped.train()
        self.progress.meter.start()
        try:
            self._run_or_save()
        except Interrupted:
            raise
        except BaseException:
            self.checkpoints.say_what_is_left(self.progress.best)
            raise

    def _run_or_save(self) -> None:
        progress = self.progress
        try:
            while self._goes_on():
                if progress.unrecorded is None:
                    self._train()
                self._record()
            self._save(wait=True)  # what comes after training may be stopped, too
            interruption.check(self.accelerator)
        except Interrupted as stop:
            self._save(wait=True)
            where = f"step {progress.step} of {progress.total_steps}"
            folder = checkpoint_folder(Path(self.config.train.output_dir), progress.step)
            saved = f"; saved in {folder}, the same command goes on from there" if self.checkpoints.kept else ""
            raise Interrupted(f"{stop} after {where}{saved}") from None

    def _goes_on(self) -> bool:
        """A step that is not recorded yet is, before anything else is asked."""
        progress, train = self.progress, self.config.train
        if progress.unrecorded is not None:
            return True
        return progress.step < progress.total_steps and not _patience_is_over(progress.best, train)

    def _train(self) -> None:
        progress, optim = self.progress, self.config.optim
        lr = learning_rate(progress.step, progress.total_steps, optim)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        micro_batches = self.batches[progress.step]
        self.before_step = Volatile.now(self.model) if len(micro_batches) > 1 else None
        try:
            step = zero.sharded_step if zero.is_sharded(self.accelerator) else train_step
            with self.probe.step(progress.meter, len(micro_batches)):
                stats = step(
                    self.accelerator, self.wrapped, self.optimizer, micro_batches, self.loss_fn, optim.max_grad_norm,
                    self.checkpoints.wished(), self.checkpoints.settle,
                )  # fmt: skip
        except DivergedError as error:
            raise DivergedError(f"step {progress.step + 1}: {error}; {_what_to_try(optim, lr)}") from None
        self.before_step = None
        progress.step, progress.unrecorded = progress.step + 1, stats
        progress.meter.add(stats.num_examples, stats.num_tokens)
        self.journal.advance(stats)
        if stats.stop:
            raise Interrupted(f"stopped by {interruption.asked() or 'a signal to another process'}")

    def _record(self) -> None:
        progress, train, step = self.progress, self.config.train, self.progress.step
        stats = progress.unrecorded
        assert stats is not None
        last = step == progress.total_steps
        with progress.meter.paused():
            evaluated: dict[str, float] = {}
            if self.evaluate and (step % self.eval_every == 0 or last):
                evaluated = self.evaluate(self.wrapped)
                self.checkpoints.join()
                progress.best.offer(step, evaluated)
                self.wrapped.train()
            if evaluated or step % train.log_steps == 0 or step == 1 or last:
                lr = learning_rate(step - 1, progress.total_steps, self.config.optim)
                self.journal.record(step, step / self.batches.steps_per_epoch, lr, stats, evaluated)
            progress.unrecorded = None
            if self.checkpoints.due(step, stats.save):
                self._save()

    def _save(self, wait: bool = False) -> None:
        """Unless it has just been done; `wait` until it is."""
        progress = self.progress
        place = (progress.step, progress.unrecorded)
        if place == self.saved:
            return self.checkpoints.join()
        self.saved = place
        progress.metrics_bytes = self.journal.sync()
        epoch = progress.step / self.batches.steps_per_epoch
        facts = {
            "step": progress.step, "total_steps": progress.total_steps, "epoch": epoch, "best_step": progress.best.step
        }  # fmt: skip
        self.checkpoints.save(progress.state_dict(), facts, self.before_step, wait)


def _eval_every(train: TrainSettings, steps_per_epoch: int, evaluate: EvaluateFn | None) -> int:
    if evaluate is None:
        for name in ("eval_steps", "best_metric", "early_stop"):
            if getattr(train, name) is not None:
                raise SettingsError(f"--train.{name} has no effect without validation examples; leave it out")
    return train.eval_steps or steps_per_epoch


def _patience_is_over(best: BestModel, train: TrainSettings) -> bool:
    over = train.early_stop is not None and best.evaluations_since >= train.early_stop
    if over:
        console.say(f"stopped early: no better metric in {train.early_stop} evaluations; the best is step {best.step}")
    return over


def _what_to_try(optim: OptimSettings, lr: float) -> str:
    advice = [f"try --optim.lr {optim.lr / 4:.1e} (it was {lr:.1e} here)"]
    if not optim.warmup_steps:
        advice.append("--optim.warmup_steps 0.06")
    if optim.max_grad_norm is None:
        advice.append("--optim.max_grad_norm 1")
    return ", ".join(advice) + ", and look for broken rows in the data"
