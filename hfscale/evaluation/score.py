"""A classifier on held-out examples, over any number of processes: no example scored twice, none left out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from accelerate.utils import send_to_device

from hfscale.evaluation.metrics import compute_metrics, decode
from hfscale.training.losses import loss_sum

if TYPE_CHECKING:
    from accelerate import Accelerator

    from hfscale.batch import Batch
    from hfscale.schemas import ProblemType


class HeldOut(Protocol):
    """This process's share of the held-out batches (`hfscale.data.EvalBatches`)."""

    num_examples: int

    def __iter__(self) -> Any: ...


def predict_logits(accelerator: Accelerator, model: torch.nn.Module, batches: HeldOut) -> np.ndarray:
    """(examples, outputs) logits in the data set's order, the same on every process; model left in eval mode."""
    model.eval()
    indices, logits = [], []
    with torch.no_grad():
        for index, output in _outputs(accelerator, model, batches):
            indices.append(index)
            logits.append(output)
    # Processes hold different numbers of rows: filled up with row -1 for the exchange, and dropped after it.
    both = (torch.cat(indices), torch.cat(logits))
    both = tuple(accelerator.pad_across_processes(part, dim=0, pad_index=-1) for part in both)
    all_indices, all_logits = (part.cpu().numpy() for part in accelerator.gather(both))
    real = all_indices >= 0
    order = np.argsort(all_indices[real], kind="stable")
    found = all_indices[real][order]
    assert np.array_equal(found, np.arange(batches.num_examples)), "an example was scored twice or left out"
    return all_logits[real][order]


def _outputs(
    accelerator: Accelerator, model: torch.nn.Module, batches: Iterable[Batch]
) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
    for batch in batches:
        inputs = {name: value for name, value in batch.inputs.items() if name != "labels"}
        output = model(**send_to_device(inputs, accelerator.device)).logits.float()
        yield torch.tensor(batch.indices, dtype=torch.long, device=output.device), output[: batch.num_examples]


def score_classifier(
    accelerator: Accelerator,
    model: torch.nn.Module,
    batches: HeldOut,
    references: Any,
    problem_type: ProblemType,
) -> dict[str, float]:
    """Metrics of the task, the main one first, and the mean `loss`."""
    logits = predict_logits(accelerator, model, batches)
    targets = np.asarray(references)
    values = compute_metrics(problem_type, decode(problem_type, logits), targets, logits.shape[-1])
    values["loss"] = float(loss_sum(problem_type, torch.from_numpy(logits), torch.from_numpy(targets))) / targets.size
    return values
