"""How a model answers held-out prompts."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from hfscale import console, interruption
from hfscale.evaluation.intervals import Scores, share_intervals
from hfscale.schemas import AnswerSettings

if TYPE_CHECKING:
    from accelerate import Accelerator
    from datasets import Dataset
    from transformers import PreTrainedModel

    from hfscale.data import ChatFormat

_SHOWN = 100  # characters


class Question(NamedTuple):
    """A conversation that waits for its last answer."""

    messages: list[dict[str, str]]
    """With the expected answer."""
    ids: list[int]
    """Token ids of all but that."""
    room: int
    """Tokens that the answer may have."""


def find_questions(
    chat: ChatFormat, table: Dataset | None, settings: AnswerSettings, model_config: Any
) -> list[Question]:
    """The first conversations of a table that leave room for an answer within the model's positions; none where there
    is no table. One that `tokenize_conversations` keeps leaves room.
    """
    positions = getattr(model_config, "max_position_embeddings", None)
    found: list[Question] = []
    for text in table["text"] if table is not None and settings.number else ():
        messages = json.loads(text)
        ids = chat.prompt_ids(messages[:-1])
        room = int(min(settings.max_new_tokens, (positions or math.inf) - chat.num_soft_tokens - len(ids)))
        if room >= 1:
            found.append(Question(messages, ids, room))
        if len(found) == settings.number:
            break
    return found


def score_answers(
    accelerator: Accelerator, model: PreTrainedModel, chat: ChatFormat, questions: list[Question]
) -> dict[str, float]:
    """`exact_match` and `stopped`: shares of the questions whose answer is the one that was to be learned, and ends by
    itself; empty without questions. The model answers with the likeliest words, and its answers are shown.

    Called by all processes, which all write the same: each may have a share of the weights only. Leaves the model in
    eval mode.
    """
    model.eval()
    equal = ended = 0
    for messages, ids, room in questions:
        answer, stopped = _answer(accelerator, model, chat, ids, room)
        interruption.check(accelerator)
        console.say(f"answer     {_short(messages[-2]['content'])} -> {_short(answer)}{'' if stopped else ' ...'}")
        ended += stopped
        equal += answer.strip() == chat.last_answer(messages).strip()
    number = len(questions)
    values = {"exact_match": equal / number, "stopped": ended / number} if number else {}
    return Scores(values, lambda: share_intervals(values, number))


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
