"""The learning curve of a run as a picture."""

from __future__ import annotations

import json
from pathlib import Path


def plot_learning_curve(run: Path) -> Path:
    """Draw loss (left) and the main held-out metric (right) over optimizer steps from `metrics.jsonl`.

    Returns the path of `learning_curve.png` in the run folder.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    evaluated = [record for record in records if "eval_loss" in record]
    figure, axes = plt.subplots(1, 2 if evaluated else 1, figsize=(10 if evaluated else 5.5, 4), squeeze=False)
    loss, *metric = axes[0]
    loss.plot([r["step"] for r in records], [r["loss"] for r in records], color="0.6", label="training batch")
    if evaluated:
        steps = [record["step"] for record in evaluated]
        loss.plot(steps, [record["eval_loss"] for record in evaluated], "o-", color="tab:blue", label="validation")
        main = next(name for name in evaluated[0] if name.startswith("eval_"))
        metric[0].plot(steps, [record[main] for record in evaluated], "o-", color="tab:blue")
        metric[0].set(xlabel="optimizer step", ylabel=f"validation {main.removeprefix('eval_')}")
        metric[0].grid(alpha=0.3)
    loss.set(xlabel="optimizer step", ylabel="loss per target")
    loss.set_ylim(bottom=0)
    loss.legend()
    loss.grid(alpha=0.3)
    figure.tight_layout()
    path = run / "learning_curve.png"
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
