"""Two models on the same inputs: how far their logits and their metrics are apart, and whether that is too far."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from hfscale.compression.inputs import Inputs
from hfscale.errors import ModelError
from hfscale.evaluation.outcomes import standard_error
from hfscale.schemas.export import Bits
from hfscale.training.best import LOWER_IS_BETTER

if TYPE_CHECKING:
    from accelerate import Accelerator

_READ = ("input_ids", "attention_mask", "token_type_ids", "pixel_values")
_READ += ("decoder_input_ids", "decoder_attention_mask")
SAME_NUMBERS = 1e-4
"""Of the largest logit: the most that float32 may change by adding an adapter's product to the weights beforehand, or
by the operators of another library."""
METRIC_LIMITS = {16: 0.01, 8: 0.02, 4: 0.05}
_LOGITS_LIMITS = {16: 0.02, 8: 0.1, 4: 0.5}
"""By bits: the fall of the main metric, as a fraction of it; where nothing is right or wrong, the mean change of the
logits, as a fraction of them."""


@dataclass(frozen=True)
class Comparison:
    """Of one model with another that is to replace it; logits are those of all real positions."""

    before: str
    after: str
    """What the two are, in words."""
    inputs: str
    largest_difference: float
    largest_logit: float
    mean_change: float
    """Root of the mean square of the differences, as a fraction of that of the logits."""
    metric: str | None
    """The main one; None where the inputs have no right answers."""
    metric_before: float | None
    metric_after: float | None
    standard_error: float | None = None
    """Of the metric's change, on as many rows; None where it isn't known."""

    @property
    def largest_change(self) -> float:
        """The largest difference as a fraction of the largest logit."""
        return self.largest_difference / self.largest_logit if self.largest_logit else self.largest_difference

    @property
    def metric_fall(self) -> float:
        """How much worse the metric has become, as a fraction of what it was; 0 where it is no worse."""
        assert self.metric is not None and self.metric_before is not None and self.metric_after is not None
        fall = self.metric_before - self.metric_after
        fall = -fall if self.metric in LOWER_IS_BETTER else fall
        return fall if math.isnan(fall) else max(0.0, fall / (abs(self.metric_before) or 1.0))

    @property
    def certainty(self) -> str:
        """How sure the change of the metric is, in words; empty where that isn't known."""
        if self.standard_error is None:
            return ""
        return f" (standard error of the change {self.standard_error:.4f})"

    def as_json(self) -> dict[str, Any]:
        """For `export.json`; what is not finite becomes null."""
        values = {**dataclasses.asdict(self), "largest_change": self.largest_change}
        broken = [name for name, value in values.items() if isinstance(value, float) and not math.isfinite(value)]
        return values | dict.fromkeys(broken)


def compare(accelerator: Accelerator, before: tuple[str, Any], after: tuple[str, Any], inputs: Inputs) -> Comparison:
    """Run two models, each with what to call it, on the same batches; leaves them in evaluation mode."""
    models = [_placed(model, accelerator).eval() for _, model in (before, after)]
    largest = largest_logit = squares = difference_squares = 0.0
    for batch in inputs.batches:
        for part in _parts(batch.inputs):
            one, other = (_logits(model, part, accelerator) for model in models)
            difference = (one - other).abs()
            # `max` of Python passes over NaN.
            largest = math.nan if difference.isnan().any() else max(largest, float(difference.max()))
            largest_logit = max(largest_logit, float(one.abs().max()))
            squares += float(one.double().square().sum())
            difference_squares += float(difference.double().square().sum())
            if math.isnan(largest):
                break
    scores = [inputs.score(model) for model in models] if inputs.score else []
    metric = next(iter(scores[0].metrics)) if scores else None
    before_and_after = [score.metrics[metric] if metric else None for score in scores] or [None, None]
    return Comparison(
        before[0],
        after[0],
        inputs.description,
        largest,
        largest_logit,
        math.sqrt(difference_squares / squares) if squares else math.sqrt(difference_squares),
        metric,
        before_and_after[0],
        before_and_after[1],
        standard_error(scores[1].spread - scores[0].spread) if scores else None,
    )


def judge_same(found: Comparison, tolerance: float | None) -> None:
    """Refuse a merge in float32, or another file of the same weights, that changed more than rounding does.

    Raises:
        ModelError: with the number and the limit.
    """
    limit = SAME_NUMBERS if tolerance is None else tolerance
    _refuse_beyond(found, f"logits change by {found.largest_change:.1e} of the largest", found.largest_change, limit)


def judge_bits(found: Comparison, bits: Bits, tolerance: float | None) -> None:
    """Refuse a change of the bits of weights that costs too much of the main metric.

    Raises:
        ModelError: with the number and the limit.
    """
    if found.metric is None:
        limit = _LOGITS_LIMITS[bits] if tolerance is None else tolerance
        _refuse_beyond(
            found, f"logits change by {found.mean_change:.2g} of them in the mean", found.mean_change, limit
        )
        return
    limit = METRIC_LIMITS[bits] if tolerance is None else tolerance
    change = f"goes from {found.metric_before:.4f} to {found.metric_after:.4f}, {found.metric_fall:.2%} worse"
    change += found.certainty
    _refuse_beyond(found, f"{found.metric} {change}", found.metric_fall, limit)


def _refuse_beyond(found: Comparison, what: str, value: float, limit: float) -> None:
    if not value <= limit:  # NaN is not
        raise ModelError(
            f"{found.before} -> {found.after}: {what}, on {found.inputs}; that is more than --tolerance "
            f"{limit:g} allows, and nothing was written"
        )


def _parts(inputs: dict[str, Any]) -> list[dict[str, Any]]:
    """What the model reads; sequences one by one where each position has logits, over a whole vocabulary perhaps."""
    read = {name: inputs[name] for name in _READ if name in inputs}
    if not inputs.keys() & {"piece_ids", "decoder_input_ids"}:
        return [read]
    return [{name: value[row : row + 1] for name, value in read.items()} for row in range(len(read["input_ids"]))]


@torch.no_grad()
def _logits(model: Any, inputs: dict[str, Any], accelerator: Accelerator) -> torch.Tensor:
    """Float32, flat but for the outputs: (examples or real positions, outputs)."""
    inputs = {name: value.to(accelerator.device) for name, value in inputs.items()}
    output = model(**inputs)
    found = output.logits if "logits" in output else torch.stack((output.start_logits, output.end_logits), dim=-1)
    is_real = inputs.get("decoder_attention_mask", inputs.get("attention_mask"))
    if found.ndim == 3 and is_real is not None:
        found = found[is_real.bool()]
    return found.float().flatten(0, -2)


def _placed(model: Any, accelerator: Accelerator) -> Any:
    """bitsandbytes' models stand where they were loaded."""
    return model if getattr(model, "is_quantized", False) else model.to(accelerator.device)
