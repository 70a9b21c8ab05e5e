"""What pretraining is worth: a BERT fine-tuned on few labelled texts, from its own and from random weights.

    python recipes/pretrain_bert.py --config recipes/configs/pretrain_bert/modernbert_tiny.yaml \
        --data.train unsup.jsonl.gz --train.output_dir runs/imdb_bert
    python benchmarks/pretraining_gain.py --model runs/imdb_bert/model --reviews train.jsonl.gz

Both fine-tune with the same settings on the same rows, once per seed; the test rows share no text with them. Only the
learning rate is each one's own: of `--lrs` the one with the best validation accuracy at the first seed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

RECIPE = Path(__file__).parent.parent / "recipes" / "finetune_bert.py"


def write_parts(reviews: Path, sizes: dict[str, int], folder: Path) -> dict[str, Path]:
    """Shuffle the rows, drop repeated texts, and write one JSONL file per part."""
    with (gzip.open if reviews.suffix == ".gz" else open)(reviews, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    random.Random(0).shuffle(rows)
    unique = iter({row["text"]: {"text": row["text"], "label": str(row["label"])} for row in rows}.values())
    files = {part: folder / f"{part}.jsonl" for part in sizes}
    for part, size in sizes.items():
        files[part].write_text("".join(json.dumps(next(unique)) + "\n" for _ in range(size)), encoding="utf-8")
    return files


def finetune(args: argparse.Namespace, files: dict[str, Path], weights: str, lr: float, seed: int) -> dict[str, float]:
    """Accuracies of one run of the recipe."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, str(RECIPE), "--model.name", str(args.model), "--train.output_dir", str(run)]
        command += [part for name, path in files.items() for part in (f"--data.{name}", str(path))]
        command += ["--model.random_weights", str(weights == "random").lower(), "--baselines", "false"]
        command += ["--data.max_length", str(args.max_length), "--optim.lr", str(lr)]
        command += ["--model.dropout", str(args.dropout)]
        command += ["--train.epochs", str(args.epochs), "--train.seed", str(seed)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        test = json.loads((run / "result.json").read_text())["metrics"]["accuracy"]
    validation = max(record.get("eval_accuracy", 0.0) for record in records)
    print(f"{weights:<11}lr {lr:g}  seed {seed}  validation {validation:.4f}  test {test:.4f}", flush=True)
    return {"validation": validation, "test": test}


def measure(args: argparse.Namespace, files: dict[str, Path], weights: str) -> tuple[float, list[float]]:
    """(the learning rate that was chosen, test accuracy by seed)."""
    first, *others = args.seeds
    tried = {lr: finetune(args, files, weights, lr, first) for lr in args.lrs}
    lr = max(tried, key=lambda lr: tried[lr]["validation"])
    return lr, [tried[lr]["test"], *(finetune(args, files, weights, lr, seed)["test"] for seed in others)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the model/ folder of a pretraining run")
    parser.add_argument("--reviews", type=Path, required=True, help="JSONL with text and label, plain or .gz")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--lrs", type=float, nargs="+", default=[5e-4, 1e-3], help="learning rates to choose from")
    parser.add_argument("--dropout", type=float, default=0.3, help="so few texts are soon known by heart")
    parser.add_argument("--weights", nargs="+", default=["pretrained", "random"], help="one of them, or both")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--max_length", type=int, default=256)
    parser.add_argument("--num_train", type=int, default=2000)
    parser.add_argument("--num_test", type=int, default=4000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sizes = {"train": args.num_train, "validation": args.num_train // 4, "test": args.num_test}
        files = write_parts(args.reviews, sizes, Path(folder))
        results = {weights: measure(args, files, weights) for weights in args.weights}
    print("\n| weights | learning rate | test accuracy, mean | by seed |\n|---|---|---|---|")
    for weights, (lr, found) in results.items():
        by_seed = " ".join(f"{value:.4f}" for value in found)
        print(f"| {weights} | {lr:g} | {statistics.mean(found):.4f} | {by_seed} |")


if __name__ == "__main__":
    main()
