"""What came out of a run: `result.json`, and the lines at its end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfscale import console
from hfscale.files import write_json

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from hfscale.training.fit_result import FitResult


def result(
    accelerator: Accelerator, model: torch.nn.Module, fitted: FitResult, metrics: dict[str, float]
) -> dict[str, Any]:
    """What every recipe's `result.json` holds; a recipe may add to it.

    `metrics` are those of the final model on held-out rows, with 95% `confidence_intervals` where they know them
    (`hfscale.evaluation.intervals`); `tokens_per_second` counts no padding, `peak_memory_bytes` is the largest of any
    process.
    """
    import torch

    from hfscale.training.state import num_elements
    from hfscale.training.throughput import peak_memory_bytes

    peak = torch.tensor([peak_memory_bytes(accelerator.device)], device=accelerator.device)
    parameters = list(model.parameters())
    intervals: Any = getattr(metrics, "intervals", dict)
    return {
        "metrics": metrics,
        "confidence_intervals": {name: each._asdict() for name, each in intervals().items()},
        **fitted._asdict(),
        "communication": fitted.communication and fitted.communication._asdict(),
        "peak_memory_bytes": int(accelerator.gather(peak).max()),  # type: ignore[union-attr]
        "num_parameters": sum(map(num_elements, parameters)),
        "num_trained_parameters": sum(num_elements(each) for each in parameters if each.requires_grad),
        "num_processes": accelerator.num_processes,
    }


def packing_result(train: Any, held_out: Any) -> dict[str, Any]:
    """What a pretraining recipe adds to its result: numbers of sequences, and the share of real tokens in them."""
    parts = {"train": train, **({"validation": held_out} if held_out else {})}
    return {
        "num_examples": {name: len(part) for name, part in parts.items()},
        "num_tokens": {name: part.num_tokens for name, part in parts.items()},
        "fill": train.fill,
        "held_out": "validation" if held_out else None,
    }


def write_result(path: Path, values: dict[str, Any], complete: bool = False) -> None:
    """Write `result.json`: there as soon as the metrics are known, `complete` when nothing is left to do. What is not
    finite becomes null."""
    write_json(path / "result.json", finite({**values, "complete": complete}))


def complete_run(path: Path, values: dict[str, Any], try_it: Sequence[str] = ()) -> None:
    """Mark the run as complete, say what came out, and the commands that try the model."""
    write_result(path, values, complete=True)
    rows = {"this model": values["metrics"], **values.get("baselines", {})}
    width = max(len(name) for name in rows)
    for name, metrics in rows.items():
        shown = "  ".join(f"{metric} {value:.4f}" for metric, value in metrics.items())
        console.say(f"{'held out' if name == 'this model' else 'baseline':<11}{name:<{width}}  {shown}")
    _say_if_useless(values["metrics"], values.get("baselines", {}))
    tokens, fraction = values["tokens_per_second"], values["matmul_peak_fraction"]
    speed = [f"{values['samples_per_second']:,.1f} samples/s"]
    speed += [f"{tokens:,.0f} tokens/s"] if tokens is not None else []
    speed += [f"{fraction:.0%} of the matrix-multiply peak"] if fraction is not None else []
    if values.get("communication"):
        efficiency = values["communication"]["scaling_efficiency"]
        speed += [f"{efficiency:.0%} scaling efficiency over {values['num_processes']} processes"]
    speed += [f"{values['train_seconds']:.0f} s of training", f"{values['peak_memory_bytes'] / 2**30:.2f} GiB"]
    console.say(f"speed      {', '.join(speed)}")
    console.say(f"saved      {path}/model, {path}/result.json, {path}/learning_curve.png")
    for number, line in enumerate(try_it):
        console.say(f"{'try it' if not number else '':<11}{line}")


def _say_if_useless(metrics: dict[str, float], baselines: dict[str, dict[str, float]]) -> None:
    """A run that was not worth its cost should not look like a success."""
    from hfscale.training.best import LOWER_IS_BETTER

    main = next(iter(metrics), "")
    sign = -1 if main in LOWER_IS_BETTER else 1
    if main not in LOWER_IS_BETTER and metrics.get(main) == 1:  # nothing could be better
        return
    better = [name for name, values in baselines.items() if sign * values.get(main, math.nan) >= sign * metrics[main]]
    if better:
        console.say(
            f"attention  by {main} this model is no better than {', '.join(better)}: train it longer, on more, or "
            "with another --optim.lr"
        )


def finite(value: Any) -> Any:
    """The value with null in place of every number that JSON can't hold."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
