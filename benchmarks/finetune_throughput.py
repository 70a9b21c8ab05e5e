"""How fast `hfscale` and `transformers.Trainer` fine-tune the same text classifier on a CPU, side by side in one run.

    python benchmarks/finetune_throughput.py --train FILE.tsv --validation FILE.tsv --text sentence --quoting false \
        --steps 200 --rounds 3 --accuracy_steps 1000

Equal for all: weights at the start, examples (one epoch over the same random ones), steps, batch size, learning rate
at every step, AdamW, weight decay, clipping, dropout, logging interval, threads. Not equal is which examples share a
batch, and how wide it is padded:

- hfscale: batches of similar lengths, as recipes/finetune_bert.py makes them
- trainer_group_by_length: `train_sampling_strategy="group_by_length"`
- trainer_dynamic: random batches, padded to the longest example
- trainer_pad_128: random batches, padded to 128 tokens; trained for `--pad_steps` on a part of the same examples

Every measurement is a fresh process (hfscale changes the allocator of its own one); the order rotates with the round.
Timed is training with fetching batches and logging, not start-up, tokenization, evaluation, or warm-up steps on other
examples. Below 200 steps Trainer has fewer batches to group than on a real data set: its share of real tokens drops.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers

from hfscale import data, launch, models, training
from hfscale.schemas import DataSettings, ModelSettings, OptimSettings, TrainSettings
from hfscale.training.throughput import matmul_peak

TASK = "single_label_classification"
BATCH_SIZE = 32
MAX_LENGTH = 128
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
TRAINERS = {  # name -> (sampling strategy, padding)
    "trainer_group_by_length": ("group_by_length", "longest"),
    "trainer_dynamic": ("random", "longest"),
    "trainer_pad_128": ("random", "max_length"),
}
CONTESTANTS = ("hfscale", *TRAINERS)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, help="file with the training examples")
    parser.add_argument("--validation", required=True, help="file to measure the accuracy on")
    parser.add_argument("--text", default="text", help="column with the text")
    parser.add_argument("--label", default="label", help="column with the label")
    parser.add_argument("--quoting", default="true", choices=("true", "false"), help="whether fields may be quoted")
    parser.add_argument("--model", default="builtin:minilm", help="what hfscale's --model.name takes")
    parser.add_argument("--lr", type=float, default=5e-5, help="learning rate at the first step, falling to zero")
    parser.add_argument("--seed", type=int, default=0, help="of the new head, the examples, their order and dropout")
    parser.add_argument("--steps", type=int, default=200, help="timed optimizer steps")
    parser.add_argument("--pad_steps", type=int, default=15, help="timed optimizer steps of trainer_pad_128")
    parser.add_argument("--warmup", type=int, default=3, help="optimizer steps before the clock starts")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of every contestant")
    parser.add_argument("--accuracy_steps", type=int, default=0, help="steps of the accuracy runs; 0 for none")
    parser.add_argument("--worker", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--evaluate", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


class Stopwatch(transformers.TrainerCallback):
    """Wall time from before the first batch to after the last log line, and all positions that the model ran on."""

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.positions, self._started = 0, time.perf_counter()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        self.seconds = time.perf_counter() - self._started


class TimedBatches:
    """hfscale's batches under a stopwatch. `fit` looks at step 0 before it begins: the last look starts the watch."""

    def __init__(self, batches: data.TrainBatches, watch: Stopwatch) -> None:
        self.steps_per_epoch, self._batches, self._watch = batches.steps_per_epoch, batches, watch

    def __getitem__(self, step: int) -> list[Any]:
        if step == 0:
            self._watch.on_train_begin()
        micro_batches = self._batches[step]
        self._watch.positions += sum(batch.inputs["input_ids"].numel() for batch in micro_batches)
        return micro_batches


def train_hfscale(accelerator: Any, classifier: models.TextClassifier, table: Any, settings: Any) -> Stopwatch:
    (model, tokenizer), train, watch = classifier, settings.train, Stopwatch()
    sizes = {"global_batch_size": train.global_batch_size, "micro_batch_size": train.micro_batch_size}
    batches = data.TrainBatches(table, pad_token_id=tokenizer.pad_token_id, seed=train.seed, **sizes)
    optimizer, loss_fn = training.build_optimizer(model, settings.optim), training.classification_loss(TASK)
    training.fit(accelerator, model, optimizer, TimedBatches(batches, watch), loss_fn, settings)
    watch.on_epoch_end()
    return watch


def train_peer(name: str, classifier: models.TextClassifier, table: Any, settings: Any) -> Stopwatch:
    watch, (sampling, padding) = Stopwatch(), TRAINERS[name]
    pad = transformers.DataCollatorWithPadding(classifier.tokenizer, padding=padding, max_length=MAX_LENGTH)

    def collate(rows: list[dict[str, Any]]) -> Any:
        batch = pad(rows)
        watch.positions += batch["input_ids"].numel()
        return batch

    train, optim = settings.train, settings.optim
    arguments = transformers.TrainingArguments(
        output_dir=train.output_dir,
        per_device_train_batch_size=train.global_batch_size,
        max_steps=train.max_steps,
        seed=train.seed,
        logging_steps=train.log_steps,
        learning_rate=optim.lr,
        lr_scheduler_type=optim.schedule,
        weight_decay=optim.weight_decay,
        max_grad_norm=optim.max_grad_norm,
        optim="adamw_torch_fused",
        train_sampling_strategy=sampling,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    transformers.Trainer(classifier.model, arguments, collate, table, callbacks=[watch]).train()
    return watch


def settings_for(args: argparse.Namespace, steps: int, folder: str) -> SimpleNamespace:
    """What `training.fit` takes of a recipe's settings; Trainer's are made from the same."""
    train = TrainSettings(output_dir=folder, seed=args.seed, max_steps=steps, global_batch_size=BATCH_SIZE)
    # No learning rate warm-up: Trainer's begins with a step at rate zero, hfscale's does not.
    return SimpleNamespace(train=train, optim=OptimSettings(lr=args.lr, schedule="linear", warmup_steps=0))


def work(args: argparse.Namespace) -> dict[str, Any]:
    """Train as `args.worker`, first for the warm-up on examples of its own, and say how it went."""
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_for(args, args.steps, folder)
        torch.set_num_threads(CORES)
        own = args.worker == "hfscale"
        train = partial(train_hfscale, launch.start(settings.train)) if own else partial(train_peer, args.worker)
        classifier, table, warmup, validation = load(args)
        if args.warmup:
            train(classifier, warmup, settings_for(args, args.warmup, folder))
        watch = train(classifier, table, settings)
    examples = args.steps * BATCH_SIZE
    return {
        "samples_per_second": examples / watch.seconds,
        "real_tokens": statistics.mean(table["length"]) * examples / watch.positions,
        "threads": torch.get_num_threads(),
        "accuracy": accuracy(classifier, validation) if args.evaluate else None,
    }


def load(args: argparse.Namespace) -> tuple[models.TextClassifier, Any, Any, Any]:
    """The model, and tokenized examples: to train on, to warm up on, to evaluate on."""
    names = {"train": args.train, "validation": args.validation, "text": args.text, "label": args.label}
    splits = data.load_splits(DataSettings(**names, quoting=args.quoting == "true"), TASK)
    labels = data.Labels.of(splits.train, TASK)
    classifier = models.load_text_classifier(ModelSettings(name=args.model), TASK, labels.names, args.seed)
    if args.worker != "hfscale":  # the same weights in a model as transformers builds it
        plain = type(classifier.model)(classifier.model.config)
        plain.load_state_dict(classifier.model.state_dict())
        classifier = classifier._replace(model=plain)
    wanted, there = (args.steps + args.warmup) * BATCH_SIZE, len(splits.train)
    if args.warmup and wanted > there:
        sys.exit(f"--steps {args.steps} and --warmup {args.warmup} need {wanted:,} examples; there are {there:,}")
    chosen = splits.train.select(np.random.default_rng(args.seed).permutation(there)[:wanted])
    tables = [data.tokenize(part, classifier.tokenizer, MAX_LENGTH, labels) for part in (chosen, splits.validation)]
    # Trainer would take the column of label names for targets.
    table, validation = (table.remove_columns("label") for table in tables)
    cut = min(args.steps * BATCH_SIZE, len(table))
    return classifier, table.select(range(cut)), table.select([*range(cut, len(table))]), validation


@torch.no_grad()
def accuracy(classifier: models.TextClassifier, table: Any) -> float:
    model, right = classifier.model.eval(), 0
    for batch in data.EvalBatches(table, pad_token_id=classifier.tokenizer.pad_token_id, batch_size=64):
        labels = batch.inputs.pop("labels")
        right += int((model(**batch.inputs).logits.argmax(-1) == labels).sum())
    return right / len(table)


def measure(name: str, steps: int, *options: str) -> dict[str, Any]:
    """Run one worker; of options given twice the last one counts."""
    command = [sys.executable, __file__, *sys.argv[1:], "--worker", name, "--steps", str(steps), *options]
    done = subprocess.run(command, env=os.environ | {"ACCELERATE_USE_CPU": "true"}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["threads"] == CORES, f"{name} ran {result['threads']} threads on {CORES} cores"
    return result


def measure_rounds(args: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTESTANTS}
    for number in range(args.rounds):
        first = number % len(CONTESTANTS)
        for name in CONTESTANTS[first:] + CONTESTANTS[:first]:
            result = measure(name, min(args.pad_steps, args.steps) if name == "trainer_pad_128" else args.steps)
            results[name].append(result)
            print(f"round {number + 1}  {name:<24}{result['samples_per_second']:>8.1f} samples/s", flush=True)
    return results


def print_speeds(results: dict[str, list[dict[str, Any]]]) -> None:
    print("\n| contestant | samples/s: min | median | max | hfscale / it, median of rounds | real tokens |")
    print("|---|---|---|---|---|---|")
    rates = {name: [result["samples_per_second"] for result in rounds] for name, rounds in results.items()}
    for name, own in rates.items():
        ratio = statistics.median(ours / its for ours, its in zip(rates["hfscale"], own, strict=True))
        spread = " | ".join(f"{value:.1f}" for value in (min(own), statistics.median(own), max(own)))
        print(f"| {name} | {spread} | {ratio:.2f} | {results[name][0]['real_tokens']:.0%} |")


def print_accuracies(args: argparse.Namespace) -> None:
    print(f"\n| contestant | dev accuracy after {args.accuracy_steps} steps | samples/s |\n|---|---|---|")
    for name in ("hfscale", "trainer_group_by_length", "trainer_dynamic"):
        result = measure(name, args.accuracy_steps, "--warmup", "0", "--evaluate")
        print(f"| {name} | {result['accuracy']:.4f} | {result['samples_per_second']:.1f} |", flush=True)


def print_peak() -> None:
    peak = matmul_peak(torch.device("cpu"), torch.float32)
    print(f"\nmatrix-multiply peak {peak / 1e9:.0f} GFLOP/s (fp32, {torch.get_num_threads()} threads)", flush=True)


def compare(args: argparse.Namespace) -> None:
    torch.set_num_threads(CORES)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {args.model}, batches of {BATCH_SIZE}")
    print_peak()
    print_speeds(measure_rounds(args))
    if args.accuracy_steps:
        print_accuracies(args)
    print_peak()


if __name__ == "__main__":
    arguments = parse_arguments()
    if arguments.worker:
        print(json.dumps(work(arguments)))
    else:
        compare(arguments)
