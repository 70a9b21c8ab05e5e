"""How often a model favours the answers that were preferred."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import send_to_device
from torch.nn import functional as F

from hfscale import interruption
from hfscale.evaluation.intervals import Scores, share_intervals
from hfscale.training.preference_loss import preference_margins

if TYPE_CHECKING:
    from accelerate import Accelerator

    from hfscale.batch import Batch


def score_preferences(
    accelerator: Accelerator, model: torch.nn.Module, batches: Iterable[Batch], beta: float
) -> dict[str, float]:
    """Mean `loss` over all pairs of all processes, `accuracy` (the share with a margin above 0: half of them count
    where training has changed nothing) and mean `margin` (see `preference_margins`).

    Leaves the model in eval mode.
    """
    model.eval()
    sums = torch.zeros(4, dtype=torch.float64, device=accelerator.device)
    with torch.no_grad():
        for batch in batches:
            inputs: Any = send_to_device(batch.inputs, accelerator.device)
            margins = preference_margins(model, inputs, beta).double()
            interruption.check(accelerator)
            if batch.num_examples:
                right = (margins > 0).double() + (margins == 0).double() / 2
                parts = [-F.logsigmoid(margins), right, margins, torch.ones_like(margins)]
                sums += torch.stack([part.sum() for part in parts])
    total: Any = accelerator.reduce(sums, reduction="sum")
    loss, accuracy, margin, number = total.tolist()
    values = {"loss": loss / number, "accuracy": accuracy / number, "margin": margin / number}
    return Scores(values, lambda: share_intervals(values, int(number)))
