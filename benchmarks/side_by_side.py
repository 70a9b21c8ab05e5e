"""What the pretraining benchmarks share: the same language model trained by hfscale and by `transformers.Trainer`.

Every measurement is a fresh process (hfscale changes the allocator of its own one), and the order of the contestants
alternates. Timed is training with fetching batches and logging; not start-up, tokenization, evaluation, nor the
warm-up steps.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers

from hfscale import launch, training
from hfscale.data.packing import tokenize_corpus
from hfscale.schemas import OptimSettings, TrainSettings

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_WHOLE = 2**30  # tokens: no document is cut
CONTESTANTS = ("hfscale", "trainer")


def parser(description: str | None) -> argparse.ArgumentParser:
    """The flags of every pretraining benchmark."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--corpus", default="builtin:docstrings", help="what hfscale's --data.train takes")
    result.add_argument("--batch_size", type=int, default=16, help="sequences per optimizer step")
    result.add_argument("--max_length", type=int, default=128, help="tokens per sequence")
    result.add_argument("--lr", type=float, default=1e-3, help="learning rate at the first step, falling to zero")
    result.add_argument("--seed", type=int, default=0, help="of weights, order and masks")
    result.add_argument("--warmup", type=int, default=2, help="optimizer steps before the clock starts")
    result.add_argument("--steps", type=int, default=30, help="timed optimizer steps")
    result.add_argument("--rounds", type=int, default=2, help="measurements of every contestant")
    result.add_argument("--worker", help=argparse.SUPPRESS)
    return result


class Run:
    """Seconds and losses of the steps after the warm-up."""

    def __init__(self, warmup: int) -> None:
        self._warmup, self.started = warmup, 0.0
        self.losses: list[float] = []

    def begins(self, step: int) -> None:
        if step == self._warmup:
            self.started = time.perf_counter()

    def ends(self) -> float:
        return time.perf_counter() - self.started


def settings_for(args: argparse.Namespace, folder: str) -> SimpleNamespace:
    """What `training.fit` takes of a recipe's settings; Trainer's are made from the same."""
    steps = args.warmup + args.steps
    train = TrainSettings(
        output_dir=folder, seed=args.seed, max_steps=steps, global_batch_size=args.batch_size, log_steps=1
    )
    # No learning rate warm-up: Trainer's begins with a step at rate zero, hfscale's does not.
    return SimpleNamespace(train=train, optim=OptimSettings(lr=args.lr, warmup_steps=0))


class _Timed:
    """hfscale's batches; `fit` looks at some before it begins, so that only the last look at a step counts."""

    def __init__(self, batches: Any, run: Run) -> None:
        self.steps_per_epoch, self._batches, self._run = batches.steps_per_epoch, batches, run

    def __getitem__(self, step: int) -> list[Any]:
        self._run.begins(step)
        return self._batches[step]


def train_hfscale(args: argparse.Namespace, make: Callable[[Any], tuple[Any, Any]]) -> tuple[Any, Run, float]:
    """(model, run, seconds). `make(settings)` gives a prepared language model and its batches."""
    run = Run(args.warmup)
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_for(args, folder)
        accelerator = launch.start(settings.train)
        torch.set_num_threads(CORES)
        model, batches = make(settings)
        optimizer = training.build_optimizer(model, settings.optim)
        training.fit(accelerator, model, optimizer, _Timed(batches, run), training.language_model_loss, settings)
        seconds = run.ends()
        records = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    run.losses = [record["loss"] for record in records]
    return model, run, seconds


class _Callback(transformers.TrainerCallback):
    def __init__(self, run: Run) -> None:
        self._run = run

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._run.begins(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" in (logs or {}):
            self._run.losses.append(logs["loss"])


def train_peer(args: argparse.Namespace, model: Any, rows: Any, collator: Any) -> tuple[Any, Run, float]:
    """(model, run, seconds) of `transformers.Trainer` on rows with `input_ids`."""
    torch.set_num_threads(CORES)
    run = Run(args.warmup)
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_for(args, folder)
        train, optim = settings.train, settings.optim
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=train.global_batch_size,
            max_steps=train.max_steps,
            seed=train.seed,
            logging_steps=1,
            learning_rate=optim.lr,
            lr_scheduler_type=optim.schedule,
            weight_decay=optim.weight_decay,
            max_grad_norm=optim.max_grad_norm,
            optim="adamw_torch_fused",
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        transformers.Trainer(model, arguments, collator, rows, callbacks=[_Callback(run)]).train()
        seconds = run.ends()
    return model, run, seconds


def chunks(table: Any, tokenizer: Any, framing: Any, max_length: int) -> list[dict[str, Any]]:
    """All documents in order, one after the other, cut into rows of equal length. The mask of special tokens is stored
    with them, as transformers' run_mlm.py does: else the collator would look for them in every batch."""
    documents = tokenize_corpus(table, tokenizer, _WHOLE, framing)["input_ids"]
    ids = list(itertools.chain.from_iterable(documents))
    rows = [ids[at : at + max_length] for at in range(0, len(ids) - max_length + 1, max_length)]
    if framing == "decoder":
        return [{"input_ids": row} for row in rows]
    special = set(tokenizer.all_special_ids)
    return [{"input_ids": row, "special_tokens_mask": [int(token in special) for token in row]} for row in rows]


def measure(script: str, name: str) -> dict[str, Any]:
    """Run one worker in a process of its own."""
    command = [sys.executable, script, *sys.argv[1:], "--worker", name]
    done = subprocess.run(command, env=os.environ | {"ACCELERATE_USE_CPU": "true"}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(script: str, args: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Every contestant `--rounds` times, in alternating order; prints a table of rates and losses."""
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__}, {CORES} cores, {args.corpus}", flush=True
    )
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTESTANTS}
    for number in range(args.rounds):
        for name in CONTESTANTS if number % 2 == 0 else reversed(CONTESTANTS):
            result = measure(script, name)
            results[name].append(result)
            print(f"round {number + 1}  {name:<10}{result['tokens_per_second']:>9,.0f} tokens/s", flush=True)
    ratios = [
        ours["tokens_per_second"] / its["tokens_per_second"] for ours, its in zip(*results.values(), strict=True)
    ]
    print("\n| contestant | tokens/s, median | first, middle, last loss | held-out loss |\n|---|---|---|---|")
    for name, runs in results.items():
        rate = statistics.median(run["tokens_per_second"] for run in runs)
        losses = runs[0]["losses"]
        curve = " ".join(f"{losses[at]:.3f}" for at in (0, len(losses) // 2, -1))
        print(f"| {name} | {rate:,.0f} | {curve} | {runs[0]['held_out_loss']:.3f} |")
    print(f"\nhfscale / trainer: {statistics.median(ratios):.2f}x ({', '.join(f'{ratio:.2f}' for ratio in ratios)})")
    return results
