"""What a checkpoint costs: seconds of training lost per save, by hfscale at once or in the background, and by Trainer.

    python benchmarks/checkpoint.py

Equal for all: a BERT of MiniLM's shape (22.7 M parameters, so 91 MB of weights and 182 MB of AdamW's state), random
batches of 32 x 64 tokens, a save every `--every` steps of which the newest two stay. A step's time goes from its
first micro-batch to that of the next one, saving included. Two figures: what the step with the save and the next one,
which may have to wait for it, took beyond two plain steps (`stalled`), and what all steps up to the next save took
beyond plain ones (`lost`): a write in the background still takes some of the processor. Plain steps are the last ones
before each save. For hfscale also how long the thread that trains stood still (`blocked`); percentages are of a plain
step. hfscale reads every file again for its sha256 and forces it to the disk; Trainer does neither. Every measurement
is a process of its own, in alternating order.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers

from hfscale import launch, training
from hfscale.batch import Batch
from hfscale.schemas import OptimSettings, TrainSettings
from hfscale.training import loop
from hfscale.training.checkpoints import Checkpoints

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
CONTESTANTS = ("hfscale", "hfscale in the background", "trainer")
VOCABULARY, BATCH, LENGTH, PLAIN = 30_522, 32, 64, 4


def new_model() -> Any:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    return transformers.BertForSequenceClassification(config)


def inputs(step: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(step)
    ids = torch.randint(1, VOCABULARY, (BATCH, LENGTH), generator=draw)
    labels = torch.randint(0, 2, (BATCH,), generator=draw)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


class Clock:
    """When each step began."""

    def __init__(self) -> None:
        self.begun: list[float] = []

    def begins(self) -> None:
        self.begun.append(time.perf_counter())


class TimedCheckpoints(Checkpoints):
    """Adds up how long training waits for checkpoints."""

    blocked: list[float]

    def save(self, *args: Any, **options: Any) -> None:
        start = time.perf_counter()
        super().save(*args, **options)
        TimedCheckpoints.blocked.append(time.perf_counter() - start)

    def settle(self) -> None:
        start = time.perf_counter()
        super().settle()
        if TimedCheckpoints.blocked:
            TimedCheckpoints.blocked[-1] += time.perf_counter() - start


class TimedBatches:
    """One micro-batch per step; `fit` looks at some before it begins, which `begins` counts, too."""

    fingerprint = "random"

    def __init__(self, clock: Clock) -> None:
        self.steps_per_epoch, self._clock = 1_000_000, clock

    def __getitem__(self, step: int) -> list[Batch]:
        self._clock.begins()
        return [Batch(inputs(step), BATCH, BATCH * LENGTH)]


def train_hfscale(folder: str, steps: int, every: int, background: bool) -> list[float]:
    clock, TimedCheckpoints.blocked = Clock(), []
    loop.Checkpoints = TimedCheckpoints  # type: ignore[misc]
    train = TrainSettings(
        output_dir=folder, max_steps=steps, save_steps=every, save_in_background=background, global_batch_size=BATCH,
        log_steps=10**6,
    )  # fmt: skip
    settings = SimpleNamespace(train=train, optim=OptimSettings(lr=1e-5))
    accelerator, model = launch.start(train), new_model()
    torch.set_num_threads(CORES)
    run: Any = SimpleNamespace(folder=Path(folder), settings={}, checkpoint=None, still_ours=lambda: None)
    optimizer = training.build_optimizer(model, settings.optim)
    loss = training.classification_loss("single_label_classification")
    training.fit(accelerator, model, optimizer, TimedBatches(clock), loss, settings, run=run)
    clock.begins()
    return clock.begun[-steps - 1 :]


class TimedRows(torch.utils.data.IterableDataset):
    def __iter__(self) -> Any:
        step = 0
        while True:
            rows = inputs(step)
            yield from ({name: tensor[row] for name, tensor in rows.items()} for row in range(BATCH))
            step += 1


class _Callback(transformers.TrainerCallback):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._clock.begins()


def train_peer(folder: str, steps: int, every: int) -> list[float]:
    clock = Clock()
    torch.set_num_threads(CORES)
    arguments = transformers.TrainingArguments(
        output_dir=folder, per_device_train_batch_size=BATCH, max_steps=steps, save_steps=every, save_total_limit=2,
        optim="adamw_torch_fused", learning_rate=1e-5, use_cpu=True, report_to="none", disable_tqdm=True,
        logging_strategy="no",
    )  # fmt: skip
    transformers.Trainer(new_model(), arguments, train_dataset=TimedRows(), callbacks=[_Callback(clock)]).train()
    clock.begins()
    return clock.begun[-steps - 1 :]


def work(args: argparse.Namespace) -> dict[str, float]:
    """Seconds of a plain step, and per save stalled and lost ones; the first interval warms up."""
    steps = args.every * (args.saves + 2)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        if args.worker == "trainer":
            begun = train_peer(folder, steps, args.every)
        else:
            begun = train_hfscale(folder, steps, args.every, args.worker != "hfscale")
    took = [after - before for before, after in itertools.pairwise(begun)]
    saves = range(2 * args.every - 1, steps - args.every, args.every)  # numbers of the steps that end with a save
    plain = statistics.median(seconds for save in saves for seconds in took[save - PLAIN : save])
    stalled = [took[save] + took[save + 1] - 2 * plain for save in saves]
    lost = [sum(took[save : save + args.every - PLAIN]) - (args.every - PLAIN) * plain for save in saves]
    found = {"plain": plain, "stalled": statistics.median(stalled), "lost": statistics.median(lost)}
    found["blocked"] = statistics.median(TimedCheckpoints.blocked[1:-1]) if args.worker != "trainer" else math.nan
    return found


def measure(name: str) -> dict[str, float]:
    command = [sys.executable, __file__, *sys.argv[1:], "--worker", name]
    done = subprocess.run(command, env=os.environ | {"ACCELERATE_USE_CPU": "true"}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=12, help="steps between saves")
    parser.add_argument("--saves", type=int, default=4, help="measured saves in a round")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of every contestant")
    parser.add_argument("--folder", help="where the checkpoints are written; by default the system's temporary folder")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(work(args)))
        return
    results: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
    for number in range(args.rounds):
        for name in CONTESTANTS if number % 2 == 0 else reversed(CONTESTANTS):
            results[name].append(measure(name))
    print("| contestant | a step | blocked per save | stalled per save | lost per save |\n|---|---|---|---|---|")
    for name, rounds in results.items():
        figures = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        plain = figures["plain"]
        blocked, stalled = (f"{figures[key]:.3f} s ({figures[key] / plain:.1%})" for key in ("blocked", "stalled"))
        print(f"| {name} | {plain:.3f} s | {blocked} | {stalled} | {figures['lost']:.2f} s |")


if __name__ == "__main__":
    main()
