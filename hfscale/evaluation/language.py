"""How well a language model predicts held-out text, and what it writes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import send_to_device

from hfscale import console, interruption
from hfscale.evaluation.outcomes import Losses, language_metrics
from hfscale.schemas import SampleSettings
from hfscale.training.language_loss import language_model_loss

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from hfscale.batch import Batch
    from hfscale.data import PackedSequences
    from hfscale.training.losses import LossFn


def score_language_model(
    accelerator: Accelerator, model: torch.nn.Module, batches: Iterable[Batch], tokens_per_byte: float
) -> dict[str, float]:
    """`bits_per_byte`, `perplexity` per token and mean `loss` over all targets of all processes.

    Leaves the model in eval mode. Bits per byte are the loss in bits over the text's length in UTF-8 bytes. For a
    causal model with byte-level tokens they are the text's information, and compare across tokenizers. For a masked
    model they are the loss at masked tokens, times the number of tokens: they compare for one share of masks and one
    tokenizer, which may have dropped case and spaces.
    """
    loss = mean_loss(accelerator, batch_losses(accelerator, model, batches, language_model_loss))
    return language_metrics(loss, tokens_per_byte)


def language_losses(
    accelerator: Accelerator, model: torch.nn.Module, batches: Iterable[Batch], tokens_per_byte: float
) -> Losses:
    """This process's losses, batch by batch; leaves the model in eval mode."""
    return Losses(batch_losses(accelerator, model, batches, language_model_loss), tokens_per_byte)


def mean_loss(accelerator: Accelerator, losses: np.ndarray) -> float:
    """Per target, of all processes' (batches, 2) `batch_losses`."""
    sums: Any = torch.from_numpy(losses.sum(axis=0)).to(accelerator.device)
    loss, num_targets = accelerator.reduce(sums, reduction="sum").tolist()  # type: ignore[union-attr]
    return loss / max(1.0, num_targets)


def batch_losses(
    accelerator: Accelerator, model: torch.nn.Module, batches: Iterable[Batch], loss_fn: LossFn
) -> np.ndarray:
    """(batches, 2) sums of this process's losses with their numbers of targets; leaves the model in eval mode."""
    model.eval()
    sums = []
    with torch.no_grad():
        for batch in batches:
            inputs: Any = send_to_device(batch.inputs, accelerator.device)
            loss, num_targets = loss_fn(model, inputs)
            interruption.check(accelerator)
            if batch.num_examples:
                sums.append((float(loss.double()), float(num_targets)))
    return np.array(sums, dtype=np.float64).reshape(-1, 2)


def unigram_baseline(train: PackedSequences, held_out: PackedSequences) -> dict[str, float]:
    """The same metrics of a model that knows nothing but how frequent each token is in training (add-one smoothed)."""
    counts, seen = train.target_counts(), held_out.target_counts()
    size = max(len(counts), len(seen))
    counts, seen = (np.pad(each, (0, size - len(each))) for each in (counts, seen))
    log_probabilities = np.log((counts + 1) / (counts + 1).sum())
    return language_metrics(float(-(seen * log_probabilities).sum() / seen.sum()), held_out.tokens_per_byte)


def write_samples(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: SampleSettings, seed: int
) -> list[str]:
    """One text per prompt, the prompt included. The same seed writes the same; training's random numbers stay."""
    if not settings.max_new_tokens:
        return []
    first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    limit = getattr(model.config, "max_position_embeddings", None) or math.inf
    texts = []
    training = model.training
    model.eval()
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad():
        torch.manual_seed(seed)
        for prompt in settings.prompts:
            ids = [first, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]
            room = int(min(settings.max_new_tokens, limit - len(ids)))
            if room < 1:
                console.warn(
                    f"--samples.prompts {prompt[:30]!r}... fills the model's {limit} positions: nothing added"
                )
                texts.append(prompt)
                continue
            sampling: dict[str, Any] = {"do_sample": settings.temperature > 0}
            if settings.temperature > 0:
                sampling |= {"temperature": settings.temperature, "top_k": 0}
            inputs = torch.tensor([ids], device=model.device)
            output: Any = model.generate(  # type: ignore[operator]
                inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=room, use_cache=True,
                pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, **sampling,
            )  # fmt: skip
            texts.append(tokenizer.decode(output[0], skip_special_tokens=True))
    model.train(training)
    return texts
