"""A whole model trained, an adapter, and an adapter beside weights in four bits: what each reaches, and what it holds.

    python benchmarks/adapters.py --train train.tsv --validation dev.tsv --text sentence --quoting false

The first `--rows` examples of the training file (GLUE's SST-2, say) fine-tune `builtin:minilm` in each way, once per
seed, by the recipe itself; the learning rate of each way is a setting, since an adapter needs one ten times as high.
Reported are the accuracy on all validation rows at the end of training, its mean over the seeds, and the bytes of what
is trained: weights, gradients and Adam's two moments, 16 a parameter. Runs that are finished stay in `--folder`, and
are not trained again.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes" / "finetune_bert.py"
BYTES_PER_TRAINED_PARAMETER = 16
WAYS = {"full": [], "lora": ["--lora.r", "8"], "4-bit lora": ["--quant.bits", "4", "--lora.r", "8"]}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="file of training rows, with a header")
    parser.add_argument("--validation", type=Path, required=True, help="file of rows to score")
    parser.add_argument("--text", default="text", help="column of the text")
    parser.add_argument("--quoting", default="true", choices=["true", "false"], help="as --data.quoting")
    parser.add_argument("--rows", type=int, default=20_000, help="training rows, from the top of the file")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--lr", type=float, default=8e-5, help="peak learning rate of all weights")
    parser.add_argument("--adapter_lr", type=float, default=1e-3, help="peak learning rate of an adapter")
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--parallel", type=int, default=1, help="runs at a time")
    parser.add_argument("--folder", type=Path, default=Path("runs/adapters"), help="where the runs go")
    return parser.parse_args()


def first_rows(path: Path, number: int, folder: Path) -> Path:
    """The header and the first rows of a file that has one row per line."""
    head = folder / f"first_{number}{path.suffix}"
    with path.open(encoding="utf-8") as lines:
        head.write_text("".join(itertools.islice(lines, number + 1)), encoding="utf-8")
    return head


def train(args: argparse.Namespace, rows: Path, way: str, seed: int) -> dict[str, Any]:
    lr = args.lr if way == "full" else args.adapter_lr
    run = args.folder / f"{way.replace(' ', '_')}-{args.rows}-{lr:g}-{args.epochs:g}-seed{seed}"
    if not (run / "result.json").exists():
        words = [sys.executable, RECIPE, "--data.train", rows, "--data.validation", args.validation.resolve()]
        words += ["--data.text", args.text, "--data.quoting", args.quoting, "--baselines", "false", *WAYS[way]]
        words += ["--optim.lr", lr, "--train.epochs", args.epochs, "--train.seed", seed, "--train.output_dir", run]
        # evaluated at the end alone: the best of many evaluations would flatter whatever is more often evaluated
        words += ["--train.eval_steps", 1_000_000]
        finished = subprocess.run([str(word) for word in words], cwd=ROOT, capture_output=True, text=True)
        if finished.returncode:
            sys.exit(f"{run} failed:\n{finished.stderr[-2000:]}")
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    print(
        f"{way} seed {seed}: {result['metrics']['accuracy']:.4f}, {result['train_seconds']:.0f} s of training",
        flush=True,
    )
    return result


def main() -> None:
    args = parse_arguments()
    args.folder = args.folder.resolve()
    args.folder.mkdir(parents=True, exist_ok=True)
    rows = first_rows(args.train, args.rows, args.folder)
    runs = list(itertools.product(args.seeds, args.ways))  # seed by seed, so that noise hits every way alike
    with ThreadPoolExecutor(args.parallel) as pool:
        results = list(pool.map(lambda run: train(args, rows, run[1], run[0]), runs))
    print("\n| trained | accuracy, mean | by seed | trained parameters | trained state | adapter or model | seconds |")
    print("| --- " * 7 + "|")
    for way in args.ways:
        of_way = [result for (_, name), result in zip(runs, results, strict=True) if name == way]
        scores = [result["metrics"]["accuracy"] for result in of_way]
        trained = of_way[0]["num_trained_parameters"]
        cells = [way, f"{statistics.mean(scores):.4f}", " ".join(f"{score:.4f}" for score in scores), f"{trained:,}"]
        cells += [f"{trained * BYTES_PER_TRAINED_PARAMETER / 2**20:,.1f} MiB", saved_size(args, way)]
        cells += [f"{statistics.mean(result['train_seconds'] for result in of_way):.0f}"]
        print(f"| {' | '.join(cells)} |")


def saved_size(args: argparse.Namespace, way: str) -> str:
    run = next(args.folder.glob(f"{way.replace(' ', '_')}-{args.rows}-*"))
    size = sum(file.stat().st_size for file in (run / "model").glob("*.safetensors"))
    return f"{size / 2**20:,.1f} MiB"


if __name__ == "__main__":
    main()
