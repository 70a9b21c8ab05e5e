"""Prompt tuning (Lester et al. 2021, arXiv:2104.08691): trained embeddings that every document begins with.

They stand in the token stream, as ids from `FIRST_SOFT_TOKEN` on, which only the input embedding can tell from a
vocabulary's. Masks, positions, lengths, packing and the loss know nothing of them.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hfscale.batch import FIRST_SOFT_TOKEN
from hfscale.errors import ModelError

_TOLERANCE = 1e-4  # of the largest logit


def read_soft_tokens(adapted: Any) -> None:
    """Let a model of PEFT's with a prompt be called with `piece_ids` (`hfscale.models.targets`): documents then bring
    their soft tokens. Called otherwise, and in `generate`, it puts the prompt before its input, as PEFT does.

    Weights, their names and what is saved stay as they are.

    Raises:
        ModelError: where the two differ: the model takes more than an embedding from its token ids.
    """
    base, plain, plain_generate = adapted.get_base_model(), adapted.forward, adapted.generate
    prompt = adapted.prompt_encoder["default"].embedding
    embed_soft_tokens(base.get_input_embeddings(), prompt)

    @functools.wraps(plain)
    def forward(*args: Any, piece_ids: Tensor | None = None, **inputs: Any) -> Any:
        return plain(*args, **inputs) if piece_ids is None else base(*args, piece_ids=piece_ids, **inputs)

    @functools.wraps(plain_generate)
    def generate(*args: Any, **inputs: Any) -> Any:
        with warnings.catch_warnings():  # at every token PEFT says that it counts positions anew, which is right
            warnings.filterwarnings("ignore", "Position ids are not supported", UserWarning)
            return plain_generate(*args, **inputs)

    adapted.forward, adapted.generate = forward, generate
    _refuse_unfit(adapted, prompt.num_embeddings)


def embed_soft_tokens(embedding: nn.Module, prompt: Callable[[Tensor], Tensor]) -> None:
    """Let an input embedding take the ids of soft tokens, too, whose vectors are `prompt` of 0, 1, ..."""
    plain = embedding.forward

    @functools.wraps(plain)
    def forward(ids: Tensor) -> Tensor:
        is_soft = ids >= FIRST_SOFT_TOKEN
        known = plain(ids.masked_fill(is_soft, 0))
        soft = prompt((ids - FIRST_SOFT_TOKEN).clamp(min=0)).to(known.dtype)
        return torch.where(is_soft.unsqueeze(-1), soft, known)

    embedding.forward = forward  # type: ignore[method-assign]


def _refuse_unfit(adapted: Any, number: int) -> None:
    """Compare the two ways to read a prompt on a short document."""
    base, training = adapted.get_base_model(), adapted.training
    ids = torch.arange(5, 9, device=adapted.device).unsqueeze(0)
    soft = torch.arange(number, device=ids.device).unsqueeze(0) + FIRST_SOFT_TOKEN
    adapted.eval()
    try:
        with torch.no_grad():
            expected = adapted(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            ids = torch.cat([soft, ids], 1)
            found = base(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            same = bool((found - expected).abs().max() <= _TOLERANCE * expected.abs().max())
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ModelError(f"--lora.method prompt does not fit a {base.config.model_type} model: {reason}") from None
    finally:
        adapted.train(training)
    if not same:
        raise ModelError(
            f"a {base.config.model_type} model takes more from its tokens than an embedding, so that --lora.method "
            "prompt does not fit it; take lora, rslora, dora or ia3"
        )
