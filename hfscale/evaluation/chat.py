"""How a model answers held-out prompts."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import torch

from hfscale import console, interruption
from hfscale.schemas import AnswerSettings

if TYPE_CHECKING:
    from accelerate import Accelerator
    from datasets import Dataset
    from transformers import PreTrainedModel

    from hfscale.data import ChatFormat

_SHOWN = 100  # characters


def score_answers(
    accelerator: Accelerator, model: PreTrainedModel, chat: ChatFormat, table: Dataset, settings: AnswerSettings
) -> dict[str, float]:
    """`exact_match` and `stopped`: shares of the first conversations whose last answer is the one that was to be
    learned, and ends by itself. The model answers with the likeliest words, and its answers are shown.

    Called by all processes, which all write the same: each may have a share of the weights only. Leaves the model in
    eval mode. Conversations that leave no room for an answer are passed over.
    """
    model.eval()
    limit = getattr(model.config, "max_position_embeddings", None) or math.inf
    equal = ended = asked = 0
    for text in table[: settings.number]["text"]:
        conversation = json.loads(text)
        messages = conversation[:-1]
        ids = chat.prompt_ids(messages)
        room = int(min(settings.max_new_tokens, limit - len(ids)))
        if room < 1:
            continue
        answer, stopped = _answer(accelerator, model, chat, ids, room)
        interruption.check(accelerator)
        console.say(f"answer     {_short(messages[-1]['content'])} -> {_short(answer)}{'' if stopped else ' ...'}")
        asked, ended = asked + 1, ended + stopped
        equal += answer.strip() == chat.last_answer(conversation).strip()
    return {"exact_match": equal / asked, "stopped": ended / asked} if asked else {}


def _answer(
    accelerator: Accelerator, model: Any, chat: ChatFormat, ids: list[int], max_new_tokens: int
) -> tuple[str, bool]:
    """(text, whether it came to its end)."""
    inputs = torch.tensor([ids], device=accelerator.device)
    with torch.no_grad():
        output = model.generate(
            inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=max_new_tokens, do_sample=False,
            use_cache=True, pad_token_id=chat.end_token_id, eos_token_id=chat.end_token_id,
        )  # fmt: skip
    new = output[0, len(ids) :].tolist()
    return chat.decode(new), new[-1] == chat.end_token_id


def _short(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
