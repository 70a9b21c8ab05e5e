"""What pretraining is worth: a BERT fine-tuned on few labelled texts, from its own and from random weights.

    python recipes/pretrain_bert.py --config recipes/configs/pretrain_bert/modernbert_tiny.yaml \
        --data.train unsup.jsonl.gz --train.output_dir runs/imdb_bert
    python benchmarks/pretraining_gain.py --model runs/imdb_bert/model --reviews train.jsonl.gz

Both fine-tune with the same settings on the same rows, once per seed; the held-out rows share no text with them.
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


def finetune(args: argparse.Namespace, files: dict[str, Path], random_weights: bool, seed: int, folder: Path) -> float:
    """Held-out accuracy of one run of the recipe."""
    command = [sys.executable, str(RECIPE), "--model.name", str(args.model), "--train.output_dir", str(folder)]
    command += [part for name, path in files.items() for part in (f"--data.{name}", str(path))]
    command += ["--model.random_weights", str(random_weights).lower(), "--data.max_length", str(args.max_length)]
    command += ["--optim.lr", str(args.lr), "--train.epochs", str(args.epochs), "--train.seed", str(seed)]
    done = subprocess.run([*command, "--baselines", "false"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads((folder / "result.json").read_text())["metrics"]["accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the model/ folder of a pretraining run")
    parser.add_argument("--reviews", type=Path, required=True, help="JSONL with text and label, plain or .gz")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--max_length", type=int, default=256)
    parser.add_argument("--num_train", type=int, default=2000)
    parser.add_argument("--num_test", type=int, default=4000)
    args = parser.parse_args()
    accuracies: dict[str, list[float]] = {"pretrained": [], "random weights": []}
    with tempfile.TemporaryDirectory() as folder:
        sizes = {"train": args.num_train, "validation": args.num_train // 4, "test": args.num_test}
        files = write_parts(args.reviews, sizes, Path(folder))
        for seed in args.seeds:
            for name, found in accuracies.items():
                run = Path(folder) / f"{name.split()[0]}-{seed}"
                found.append(finetune(args, files, name != "pretrained", seed, run))
                print(f"seed {seed}  {name:<15}{found[-1]:.4f}", flush=True)
    print("\n| weights | accuracy, mean | by seed |\n|---|---|---|")
    for name, found in accuracies.items():
        print(f"| {name} | {statistics.mean(found):.4f} | {' '.join(f'{value:.4f}' for value in found)} |")


if __name__ == "__main__":
    main()
