"""Training on one GPU in bf16: hfscale beside `transformers.Trainer`, in one run.

    python benchmarks/gpu_training.py --rounds 2 --out gpu.json

1. GPT-2 small (124 M weights, 50,257 tokens of vocabulary) on sequences of 1,024 tokens. hfscale's hold several
   documents each, which don't see each other; the peer's are one text, as its example script cuts them.
2. A classifier of MiniLM's shape (6 layers, width 384) on texts of 4 to 120 tokens: hfscale's batches of similar
   lengths, the peer's random ones and those of its `group_by_length`.

Both have random weights and random texts, AdamW (fused), clipping, no dropout, the same sizes of batches. Reported are
real tokens per second (padding left out), the share of the GPU's peak (as this GPU multiplies two matrices of
8,192 x 8,192, and by its data sheet) that the matrix products of the model's own work reach, and the most memory that
was allocated. Every measurement is a fresh process; the order alternates. Timed are steps after `--warmup` ones.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers

from hfscale import data, launch, models, training
from hfscale.batch import Batch
from hfscale.launch.plan.gpus import GPUS
from hfscale.models.first_token import read_first_token_only
from hfscale.schemas import OptimSettings, TrainSettings
from hfscale.training.throughput import flops_of, matmul_peak

TASKS = {"gpt2": ("hfscale", "trainer"), "minilm": ("hfscale", "trainer", "trainer_group_by_length")}
TASK = "single_label_classification"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60, help="timed optimizer steps")
    parser.add_argument("--warmup", type=int, default=10, help="optimizer steps before the clock starts")
    parser.add_argument("--rounds", type=int, default=2, help="measurements of every contestant")
    parser.add_argument("--tiny", action="store_true", help="small models, to try the script")
    parser.add_argument("--out", help="file for the figures")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


class Clock:
    """From the first step after the warm-up to the end, the GPU's work included."""

    def __init__(self, warmup: int) -> None:
        self._warmup, self._started = warmup, 0.0

    def begins(self, step: int) -> None:
        if step == self._warmup:
            _wait()
            self._started = time.perf_counter()

    def seconds(self) -> float:
        _wait()
        return time.perf_counter() - self._started


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class TimedBatches:
    """What `fit` trains on; it looks at some batches before it begins, so that the last look at a step counts."""

    steps_per_epoch = 1_000_000

    def __init__(self, batches: Any, clock: Clock) -> None:
        self._batches, self._clock = batches, clock

    def __getitem__(self, step: int) -> list[Batch]:
        self._clock.begins(step)
        return self._batches[step % len(self._batches)]


class Callback(transformers.TrainerCallback):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._clock.begins(state.global_step)


def gpt2(tiny: bool) -> tuple[Any, int, int]:
    """(model, sequences per batch, tokens per sequence)."""
    shape = {"n_embd": 64, "n_layer": 2, "n_head": 2, "vocab_size": 500} if tiny else {}
    config = transformers.GPT2Config(
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, activation_function="gelu_pytorch_tanh", **shape
    )
    config.bos_token_id = config.eos_token_id = 0
    return transformers.GPT2LMHeadModel(config), 2 if tiny else 16, 64 if tiny else 1024


def minilm(tiny: bool) -> Any:
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    full = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return transformers.BertForSequenceClassification(transformers.BertConfig(**(shape if tiny else full), **none))


def packed(ids: torch.Tensor, generator: np.random.Generator) -> Batch:
    """Rows of ids as sequences of two to six documents each, every next token to be predicted within its document."""
    rows, length = ids.shape
    pieces, places = torch.ones_like(ids), torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for row in range(rows):
        cuts = sorted(generator.choice(np.arange(8, length - 8), generator.integers(1, 6), replace=False).tolist())
        for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, length], strict=True), start=1):
            pieces[row, start:end], places[row, start:end] = number, torch.arange(end - start)
            labels[row, start : end - 1] = ids[row, start + 1 : end]
    inputs = {"input_ids": ids, "labels": labels, "position_ids": places, "piece_ids": pieces}
    return Batch(inputs, rows, rows * length)


def texts(number: int, vocabulary: int) -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    lengths = np.clip(np.exp(generator.normal(3.0, 0.6, number)), 4, 120).astype(int)  # as sentences of reviews are
    return [
        {"input_ids": generator.integers(5, vocabulary, length).tolist(), "labels": int(length) % 2, "length": length}
        for length in lengths.tolist()
    ]


def settings_for(args: argparse.Namespace, folder: str, batch_size: int) -> Any:
    steps = args.steps + args.warmup
    train = TrainSettings(
        output_dir=folder, max_steps=steps, global_batch_size=batch_size, log_steps=20, precision="bf16"
    )
    return SimpleNamespace(train=train, optim=OptimSettings(lr=1e-4))


def train_hfscale(args: Any, model: Any, batches: Any, loss_fn: Any, batch_size: int) -> float:
    clock = Clock(args.warmup)
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_for(args, folder, batch_size)
        accelerator = launch.start(settings.train)
        optimizer = training.build_optimizer(model, settings.optim)
        training.fit(accelerator, model, optimizer, TimedBatches(batches, clock), loss_fn, settings)
        return clock.seconds()


def train_peer(args: Any, model: Any, rows: Any, collate: Any, batch_size: int, sampling: str = "random") -> float:
    clock = Clock(args.warmup)
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=batch_size,
            max_steps=args.steps + args.warmup,
            logging_steps=20,
            learning_rate=1e-4,
            bf16=torch.cuda.is_available(),
            use_cpu=not torch.cuda.is_available(),
            optim="adamw_torch_fused",
            train_sampling_strategy=sampling,
            dataloader_num_workers=2,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        transformers.Trainer(model, arguments, collate, rows, callbacks=[Callback(clock)]).train()
        return clock.seconds()


def work_gpt2(args: Any, name: str) -> tuple[float, float, float]:
    """(seconds, real tokens, floating point operations) of the timed steps."""
    torch.manual_seed(0)
    model, rows, length = gpt2(args.tiny)
    number = args.steps + args.warmup
    ids = torch.randint(1, model.config.vocab_size, (number * rows, length))
    flops = 3 * args.steps * rows * length * _flops_per_token(model, length)
    if name == "hfscale":
        generator = np.random.default_rng(0)
        batches = [[packed(part, generator)] for part in ids.split(rows)]
        model = models.prepare_language_model(model)
        seconds = train_hfscale(args, model, batches, training.language_model_loss, rows)
    else:
        table = [{"input_ids": row, "labels": row} for row in ids]
        seconds = train_peer(args, model, table, transformers.default_data_collator, rows)
    return seconds, args.steps * rows * length, flops


def work_minilm(args: Any, name: str) -> tuple[float, float, float]:
    import datasets

    torch.manual_seed(0)
    model, batch_size = minilm(args.tiny), 8 if args.tiny else 128
    rows = texts((args.steps + args.warmup) * batch_size, model.config.vocab_size)
    tokens = statistics.mean(row["length"] for row in rows) * args.steps * batch_size
    flops = 3 * tokens * _flops_per_token(model, 32)
    if name == "hfscale":
        table = datasets.Dataset.from_list(rows)
        batches = data.TrainBatches(
            table, pad_token_id=0, pad_multiple=8, global_batch_size=batch_size, micro_batch_size=None, seed=0
        )
        made = _Once(batches, args.steps + args.warmup)
        read_first_token_only(model)
        seconds = train_hfscale(args, model, made, training.classification_loss(TASK), batch_size)
        return seconds, tokens, flops

    def collate(rows: Any) -> Any:
        width = -(-max(len(row["input_ids"]) for row in rows) // 8) * 8
        ids = torch.tensor([row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in rows])
        return {
            "input_ids": ids,
            "attention_mask": (ids > 0).long(),
            "labels": torch.tensor([r["labels"] for r in rows]),
        }

    sampling = "group_by_length" if name == "trainer_group_by_length" else "random"
    table = datasets.Dataset.from_list(rows)
    return train_peer(args, model, table, collate, batch_size, sampling), tokens, flops


class _Once:
    """An epoch's batches, made when they are asked for."""

    def __init__(self, batches: Any, number: int) -> None:
        self._batches, self._number = batches, number

    def __len__(self) -> int:
        return self._number

    def __getitem__(self, step: int) -> Any:
        return self._batches[step]


def _flops_per_token(model: Any, length: int) -> float:
    """Of the products of a forward pass."""
    with torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        ids = torch.ones(1, length, dtype=torch.int64)
        return flops_of(lambda: model.eval()(input_ids=ids)) / length


def work(args: Any) -> dict[str, Any]:
    task, name = args.worker
    seconds, tokens, flops = (work_gpt2 if task == "gpt2" else work_minilm)(args, name)
    on_gpu = torch.cuda.is_available()
    memory = torch.cuda.max_memory_allocated() if on_gpu else 0
    device = torch.device("cuda" if on_gpu else "cpu")
    peak = matmul_peak(device, torch.bfloat16 if on_gpu else torch.float32)
    return {
        "tokens_per_second": tokens / seconds,
        "flops_per_second": flops / seconds,
        "peak": peak,
        "memory": memory,
    }


def measure(task: str, name: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *sys.argv[1:], "--worker", task, name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        print(f"{task} {name} failed:\n{done.stdout[-800:]}\n{done.stderr[-2500:]}", flush=True)
        return {}
    return json.loads(done.stdout.splitlines()[-1])


def main(args: argparse.Namespace) -> None:
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"{where}, torch {torch.__version__}, transformers {transformers.__version__}, bf16", flush=True)
    sheet = next((gpu.bf16_tflops for key, gpu in GPUS.items() if key in where.lower()), None)
    found: dict[str, Any] = {"device": where}
    print("\n| task | contestant | tokens/s | of measured peak | of data sheet | memory |\n|---|---|---|---|---|---|")
    for task, contestants in TASKS.items():
        runs: dict[str, list[Any]] = {name: [] for name in contestants}
        for number in range(args.rounds):
            for name in contestants if number % 2 == 0 else reversed(contestants):
                result = measure(task, name)
                runs[name] += [result] if result else []
        for name, results in runs.items():
            if not results:
                continue
            best = {key: statistics.median(result[key] for result in results) for key in results[0]}
            rate = best["flops_per_second"]
            of_sheet = f"{rate / sheet / 1e12:.1%}" if sheet else "?"
            print(
                f"| {task} | {name} | {best['tokens_per_second']:,.0f} | {rate / best['peak']:.1%} "
                f"| {of_sheet} | {best['memory'] / 2**30:.2f} GiB |",
                flush=True,
            )
        found[task] = runs
    if args.out:
        with open(args.out, "w") as file:
            json.dump(found, file, indent=2)


if __name__ == "__main__":
    arguments = parse_arguments()
    if arguments.worker:
        print(json.dumps(work(arguments)))
    else:
        main(arguments)
