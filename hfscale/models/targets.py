"""A language model that computes its loss where it is wanted and nowhere else, and keeps packed documents apart.

`prepare_language_model` gives a model's forward a second way to be called, with `labels` and `piece_ids`: it then
returns the sum of the losses. Two things make that cheap. What stands between the body and the output layer (BERT's
transform, for one) runs at the labelled positions only; and the output layer with its cross entropy runs in chunks, so
that the (positions, vocabulary) logits never exist as a whole.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from hfscale.errors import ModelError
from hfscale.models.document_masks import mask_arguments

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_IGNORED = -100
_CHUNK_ELEMENTS = 2**25  # logits at a time: 128 MiB in float32; fewer read the output layer's weights too often
_TOLERANCE = 1e-4  # of the largest feature: rounding stays at 1e-6, a document that is seen starts at 1e-3
_FACTOR = 1000.0  # with features so large what bends them (soft-capped logits) shows


class _Targets:
    """Where the model's body is to be read, between the call of the model and the call of its body."""

    positions: Tensor | None = None


def prepare_language_model(model: PreTrainedModel) -> PreTrainedModel:
    """Let `model(input_ids, position_ids, piece_ids, labels)`, all (batch, seq), return the sum of the losses.

    `labels` holds the token to predict at each position (already shifted for a causal model) and -100 elsewhere;
    `piece_ids` tells documents of a sequence apart. With `per_target` the losses come one by one, (targets,). Without
    `labels` the model is called as before. Weights and their names stay as they are.

    Raises:
        ModelError: where the model's output is not one linear layer over its body's states, where documents that share
            a sequence would see each other, or where the model takes no masks; all found by small forward passes.
    """
    features_at = attach_language_loss(model)
    prepared = vars(model).pop("forward")  # a refused model is left as it was
    _refuse_unfit(model, features_at)
    model.forward = prepared
    return model


def attach_language_loss(model: PreTrainedModel) -> Callable[..., Tensor]:
    """What `prepare_language_model` does, without its trial: weights without numbers (fake or empty) can't be tried.

    Returns:
        The function that reads what the output layer would see, (positions, hidden).
    """
    plain, targets = model.forward, _Targets()

    def output_layer() -> Any:
        return model.get_output_embeddings()

    def read_at_targets(module: nn.Module, args: Any, output: Any) -> Any:
        if targets.positions is not None:
            states = output.last_hidden_state
            output.last_hidden_state = states.flatten(0, 1)[targets.positions].unsqueeze(0)
        return output

    def features_at(positions: Tensor, piece_ids: Tensor, position_ids: Tensor, factor: float = 1, **ids: Any) -> Any:
        """(positions, hidden) what the output layer would see at these places of the flat batch, `factor` times."""
        masks = mask_arguments(model, piece_ids, position_ids)
        targets.positions = positions
        try:
            with _as_identity(output_layer(), factor):
                return plain(**ids, **masks).logits.squeeze(0)
        finally:
            targets.positions = None

    @functools.wraps(plain)
    def forward(
        *args: Any,
        labels: Tensor | None = None,
        piece_ids: Tensor | None = None,
        per_target: bool = False,
        **inputs: Any,
    ) -> Any:
        if labels is None:
            return plain(*args, **inputs)
        assert piece_ids is not None and not args
        wanted = labels.flatten()
        positions = (wanted != _IGNORED).nonzero().squeeze(1)
        given = {name: value for name, value in inputs.items() if value is not None}  # as PEFT adds them
        features = features_at(positions, piece_ids, **given)
        if per_target:
            return cross_entropies(features, output_layer(), wanted[positions])
        return linear_cross_entropy(features, output_layer(), wanted[positions])

    model.base_model.register_forward_hook(read_at_targets)
    model.forward = forward
    return features_at


@contextlib.contextmanager
def _as_identity(layer: nn.Module, factor: float) -> Generator[None]:
    """The layer hands on what it gets, so that a model's "logits" are what its output layer would have seen."""
    layer.forward = lambda states: states if factor == 1 else states * factor
    try:
        yield
    finally:
        del layer.forward  # the class's own one shows again


def linear_cross_entropy(features: Tensor, layer: Any, targets: Tensor) -> Tensor:
    """Sum in float32 of the cross entropies of `layer(features)`, (positions, vocabulary), with (positions,) targets.

    The logits exist for a chunk of positions at a time, and their gradients are computed on the way, as in Wijmans et
    al. 2024 ("Cut Your Losses in Large-Vocabulary Language Models", arXiv:2411.09009).
    """
    if not len(targets):  # zero, with a gradient for every weight: DistributedDataParallel waits for each
        return F.linear(features, layer.weight, layer.bias).sum()
    device = features.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else layer.weight.dtype
    given = (features, layer.weight, layer.bias)
    if not torch.is_grad_enabled():  # a custom function is asked for gradients nevertheless
        given = tuple(None if tensor is None else tensor.detach() for tensor in given)
    return _ChunkedCrossEntropy.apply(*given, targets, dtype)  # type: ignore[no-any-return]


def cross_entropies(features: Tensor, layer: Any, targets: Tensor) -> Tensor:
    """(positions,) float32 cross entropies of `layer(features)` with (positions,) targets, one by one.

    The logits exist for a chunk of positions at a time, and are computed once more in the backward pass: what is to be
    done with each loss is not known before.
    """

    def losses(features: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(layer(features).float(), targets, reduction="none")

    size = _positions_at_once(layer.out_features)
    chunks = zip(features.split(size), targets.split(size), strict=True)
    return torch.cat([checkpoint(losses, *chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks])


def _positions_at_once(vocabulary: int) -> int:
    return max(16, min(1024, 1 << (_CHUNK_ELEMENTS // vocabulary).bit_length() - 1))


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Products are computed in `dtype`; what is summed over chunks is summed in float32.

    torch's own `linear_cross_entropy` sums in the type of its inputs: in bfloat16 a loss over 128 chunks was 15% off.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, dtype: torch.dtype
    ) -> Tensor:
        given: Any = (features, weight, bias)
        grads = [
            torch.zeros_like(tensor, dtype=torch.float32) if tensor is not None and needed else None
            for tensor, needed in zip(given, ctx.needs_input_grad, strict=False)
        ]
        low: list[Any] = [None if tensor is None else tensor.to(dtype) for tensor in given]
        loss = torch.zeros((), device=targets.device)
        size = _positions_at_once(len(weight))
        logits = torch.empty(min(size, len(targets)), len(weight), device=targets.device)
        with torch.autocast(targets.device.type, enabled=False):
            for start in range(0, len(targets), size):
                rows = slice(start, start + size)
                loss += _chunk_loss(logits, low[0][rows], low[1], low[2], targets[rows], rows, grads)
        ctx.save_for_backward(*grads)
        ctx.dtypes = [None if tensor is None else tensor.dtype for tensor in given]
        return loss

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        saved = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return *(None if grad is None else (grad * outer[0]).to(dtype) for grad, dtype in saved), None, None


def _chunk_loss(
    buffer: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    rows: slice,
    grads: list[Tensor | None],
) -> Tensor:
    """The loss of some rows of the features; their part of the gradients is written into, or added to, `grads`.

    All in place, in the one buffer for the logits: each pass over so many numbers counts, fresh memory too.
    """
    logits, at = buffer[: len(x)], targets[:, None]
    torch.mm(x, weight.T, out=logits) if x.dtype == logits.dtype else logits.copy_(x @ weight.T)
    if bias is not None:
        logits += bias
    logits -= logits.amax(1, keepdim=True)
    right = logits.gather(1, at)
    total = logits.exp_().sum(1, keepdim=True)
    if any(grad is not None for grad in grads):
        slope = logits.div_(total).scatter_add_(1, at, -torch.ones_like(total))  # probability, less 1 where right
        of_features, of_weight, of_bias = grads
        if of_bias is not None:
            of_bias += slope.sum(0)
        slope = slope.to(x.dtype)
        if of_features is not None:
            of_features[rows] = slope @ weight
        if of_weight is not None:
            of_weight.addmm_(slope.T, x) if x.dtype == of_weight.dtype else of_weight.add_(slope.T @ x)
    return (total.log() - right).sum()


def _refuse_unfit(model: PreTrainedModel, features_at: Callable[..., Tensor]) -> None:
    """Compare two documents in one sequence with each alone, and with the model's own logits.

    Features are compared, not losses: those of new weights hardly depend on anything.
    """
    training, name = model.training, model.config.model_type
    decoder: Any = model.get_output_embeddings()
    padding = getattr(model.config, "pad_token_id", None)  # RoBERTa counts no position for it
    ids = torch.tensor([[token for token in range(5, 17) if token != padding][:11]], device=model.device)
    pieces = torch.tensor([[1] * 4 + [2] * 7], device=model.device)
    places = torch.cat([torch.arange(4), torch.arange(7)]).unsqueeze(0).to(model.device)

    def read(ids: Tensor, places: Tensor, pieces: Tensor, factor: float = 1) -> Tensor:
        every = torch.arange(ids.numel(), device=ids.device)
        return features_at(every, pieces, places, factor, input_ids=ids)

    model.eval()
    try:
        with torch.no_grad():
            packed, scaled = read(ids, places, pieces), read(ids, places, pieces, _FACTOR)
            alone = [read(part, place, torch.ones_like(part))
                     for part, place in zip(ids.split([4, 7], 1), places.split([4, 7], 1), strict=True)]  # fmt: skip
            logits = model(input_ids=ids[:, :4]).logits[0]
            is_linear = _same(scaled, packed * _FACTOR) and _same(decoder(alone[0]), logits)
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ModelError(
            f"a {name} model can't be told which documents share a sequence ({reason}); choose another model"
        ) from None
    finally:
        model.train(training)
    if not is_linear:
        raise ModelError(
            f"the outputs of a {name} model are not one linear layer over its states, which this recipe needs; "
            "choose another model"
        )
    if not _same(packed, torch.cat(alone)):
        raise ModelError(
            f"a {name} model lets documents that share a sequence see each other (attention "
            f"{model.config._attn_implementation}): packing would train something else; choose another model"
        )


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool((one - other).abs().max() <= _TOLERANCE * other.abs().max())
