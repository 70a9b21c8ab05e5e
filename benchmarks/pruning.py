"""What pruning half of a network costs and gives: the CNN and a BERT of MiniLM's size, before, after, and recovered.

    python benchmarks/pruning.py --mnist FOLDER --folder runs/pruning

FOLDER holds MNIST's four idx files; without it the CNN learns scikit-learn's digits. The BERT is `builtin:minilm`,
fine-tuned on `builtin:tickets` as in the quickstart. Each is pruned by `hfscale prune` in both ways, and what
`structured` made is trained for another epoch by the command that `hfscale prune` prints. So that nobody takes the
other epoch for the pruning's merit, the whole network is trained for one more, too. Accuracies are of the test rows.
Runs that are finished stay in `--folder`, and are not trained again.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "recipes" / "configs"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, help="folder with MNIST's four idx files, plain or .gz")
    parser.add_argument("--folder", type=Path, default=Path("runs/pruning"), help="where the runs go")
    parser.add_argument("--sparsity", type=float, default=0.5)
    parser.add_argument("--networks", nargs="+", choices=("cnn", "encoder"), default=["cnn", "encoder"])
    return parser.parse_args()


def python(*words: Any) -> str:
    """Run this Python in the root of the project; returns what it printed."""
    command = [sys.executable, *map(str, words)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if finished.returncode:
        sys.exit(f"{shlex.join(command)} failed:\n{finished.stdout[-2000:]}{finished.stderr[-2000:]}")
    return finished.stdout


def accuracy_of(run: Path) -> float:
    return json.loads((run / "result.json").read_text(encoding="utf-8"))["metrics"]["accuracy"]


def prune(run: Path, method: str, sparsity: float) -> tuple[dict[str, Any], list[str]]:
    """(what `prune.json` says, the words of the command that recovers)."""
    output = run.with_name(f"{run.name}-{method}")
    for earlier in (output, Path(f"{output}-recovered")):
        shutil.rmtree(earlier, ignore_errors=True)
    printed = python("-m", "hfscale", "prune", run, "--sparsity", sparsity, "--method", method, "--output", output)
    print(printed, flush=True)
    recovery = next((line for line in printed.splitlines() if line.startswith("recover")), "")
    return json.loads((output / "prune.json").read_text(encoding="utf-8")), shlex.split(recovery)[2:]


def measure(network: str, start: list[Any], folder: Path, sparsity: float) -> list[str]:
    """Rows of the table: the network as it was, without half of it, and with zeros."""
    run = folder / network
    python(*start, "--train.output_dir", run)
    structured, recovery = prune(run, "structured", sparsity)
    magnitude, _ = prune(run, "magnitude", sparsity)
    python(*recovery)
    pruned = recovery[recovery.index("--model.name") + 1]
    again = run.with_name(f"{network}-longer")
    shutil.rmtree(again, ignore_errors=True)
    python(
        *[str(again) if word == f"{pruned}-recovered" else str(run) if word == pruned else word for word in recovery]
    )
    return [
        row(network, "whole", structured, "before", accuracy_of(again)),
        row(network, "structured", structured, "after", accuracy_of(Path(f"{pruned}-recovered"))),
        row(network, "magnitude", magnitude, "after", None),
    ]


def row(network: str, name: str, report: dict[str, Any], when: str, longer: float | None) -> str:
    faster = report["speed"]["speed_up"] if when == "after" else {"pruned_layers": 1, "throughput": 1, "latency": 1}
    cells = [network, name, f"{report['num_parameters'][when]:,}", f"{report['bytes'][when]:,}"]
    cells += [f"{report['metrics'][when]['accuracy']:.4f}", "" if longer is None else f"{longer:.4f}"]
    cells += [f"{faster[share]:.2f}" for share in ("pruned_layers", "throughput", "latency")]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    args = parse_arguments()
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    cnn = ["recipes/train_cnn.py", "--config", CONFIGS / "train_cnn" / ("mnist.yaml" if args.mnist else "digits.yaml")]
    cnn += ["--data.train", args.mnist.resolve()] if args.mnist else []
    encoder = ["recipes/finetune_bert.py", "--config", CONFIGS / "finetune_bert" / "quickstart.yaml"]
    starts = {"cnn": cnn, "encoder": encoder}
    rows = [row for network in args.networks for row in measure(network, starts[network], folder, args.sparsity)]
    print("| network | pruned | parameters | bytes | accuracy | one epoch later | layers | batch | one example |")
    print("| --- " * 9 + "|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
