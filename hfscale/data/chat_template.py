"""How a conversation is written for a model, and which of its tokens are the answers.

The model's own chat template decides (transformers, `apply_chat_template`). An answer is what a template writes beyond
the prompt for it, up to and including the end of the turn: what `generate` is to write, no token more or less.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from hfscale import console
from hfscale.batch import FIRST_SOFT_TOKEN
from hfscale.data.conversations import Conversations, Message
from hfscale.data.packing import PackedSequences
from hfscale.data.tokenization import tokenizer_fingerprint
from hfscale.errors import DataError, ModelError, SettingsError
from hfscale.schemas import ConversationSettings, LoraSettings, num_soft_tokens

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

_BEGIN = "{{ bos_token or eos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content + '\\n\\n' }}"
TEMPLATES = {
    "plain": _BEGIN
    + "{% elif m.role == 'user' %}{{ 'User: ' + m.content + '\\n' }}"
    + "{% else %}{{ 'Assistant: ' + m.content + eos_token + '\\n' }}{% endif %}{% endfor %}"
    + "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}",
    "alpaca": _BEGIN
    + "{% elif m.role == 'user' %}{{ '### Instruction:\\n' + m.content + '\\n\\n' }}"
    + "{% else %}{{ '### Response:\\n' + m.content + eos_token + '\\n\\n' }}{% endif %}{% endfor %}"
    + "{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}",
}
"""Templates for tokenizers that bring none; their end-of-text token ends an answer. The layout of `alpaca` is that of
Stanford Alpaca (Taori et al. 2023)."""

_PROBE = "hfscale probe"


class ChatFormat:
    """Conversations as one model reads them.

    The tokenizer gets the template that it lacks, so that it is saved with the model. With prompt tuning (`lora`) each
    conversation begins with the soft tokens of the prompt.

    Raises:
        ModelError: for a tokenizer without a template where none was named, without positions of its tokens in the
            text, or with a template that doesn't end answers.
        SettingsError: for a template named beside the tokenizer's own.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, settings: ConversationSettings, lora: LoraSettings | None = None
    ) -> None:
        self._tokenizer, self._system = tokenizer, settings.system
        self.num_soft_tokens = num_soft_tokens(lora)
        name = tokenizer.name_or_path or "the tokenizer"
        if tokenizer.chat_template and settings.template:
            raise SettingsError(
                f"--data.template has no effect: {name} brings a chat template of its own; leave it out"
            )
        if not tokenizer.chat_template and not settings.template:
            raise ModelError(f"{name} brings no chat template; name one with --data.template plain or alpaca")
        if settings.template:
            if tokenizer.eos_token is None:
                raise ModelError(f"{name} has no end-of-text token, which --data.template {settings.template} writes")
            tokenizer.chat_template = TEMPLATES[settings.template]
        if not tokenizer.is_fast:
            raise ModelError(f"{name} can't say where its tokens are in a text; take a model with a fast tokenizer")
        self.end_token_id = self._find_end(name)

    def _find_end(self, name: str) -> int:
        """What ends an answer."""
        asked = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _PROBE}]
        after = self._write(asked).rpartition(_PROBE)[2].strip()
        ids = self._tokenizer(after, add_special_tokens=False)["input_ids"]
        if not ids:
            raise ModelError(f"the chat template of {name} ends no answer: a model trained with it would never stop")
        if len(ids) > 1 and ids[0] not in self._tokenizer.added_tokens_decoder:
            raise ModelError(
                f"the chat template of {name} ends answers with {after!r}, of which its vocabulary has no token: "
                "nothing would tell a model's answer from its end"
            )
        return int(ids[0])

    @property
    def fingerprint(self) -> str:
        """Of all that decides how a conversation is written."""
        written = f"{self._tokenizer.chat_template} {self._system} {self.num_soft_tokens}"
        return f"{tokenizer_fingerprint(self._tokenizer)} {written}"

    def _write(self, messages: list[Message], prompt: bool = False) -> str:
        if self._system and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": self._system}, *messages]
        from jinja2 import TemplateError

        try:
            written = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        except TemplateError as error:
            raise ModelError(f"the model's chat template takes no such conversation: {error}") from None
        assert isinstance(written, str)
        return written

    def prompt_ids(self, messages: list[Message]) -> list[int]:
        """Token ids of messages that wait for an answer, without soft ones: `generate` puts them there itself."""
        return self._tokenizer(self._write(messages, prompt=True), add_special_tokens=False, verbose=False)[
            "input_ids"
        ]

    def decode(self, ids: list[int]) -> str:
        """An answer as text."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def last_answer(self, messages: list[Message]) -> str:
        """What a model that has learned the conversation answers last, all that its template puts around it
        included."""
        ids, learned = self.encode_last(messages)
        return self.decode(ids[learned].tolist())

    def encode_last(self, messages: list[Message]) -> tuple[np.ndarray, np.ndarray]:
        """As `encode`, of the last answer alone."""
        return self._encode(messages, [len(messages) - 1])

    def encode(self, messages: list[Message]) -> tuple[np.ndarray, np.ndarray]:
        """(tokens,) ids, int32, and which of them are an answer's.

        Raises:
            ModelError: for a template that writes a turn differently once more follow.
        """
        answers = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
        return self._encode(messages, answers)

    def _encode(self, messages: list[Message], answers: list[int]) -> tuple[np.ndarray, np.ndarray]:
        text = self._write(messages)
        found: Any = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        starts, stops = np.array(found["offset_mapping"], dtype=np.int64).reshape(-1, 2).T
        learned = np.zeros(len(starts), dtype=bool)
        for begin, end in self._places(messages, answers, text):
            learned |= np.maximum(starts, begin) < np.minimum(stops, end)
            learned |= (starts == stops) & (begin <= starts) & (starts < end)  # a blank alone has no length to some
        soft = np.arange(FIRST_SOFT_TOKEN, FIRST_SOFT_TOKEN + self.num_soft_tokens, dtype=np.int32)
        ids = np.concatenate([soft, np.array(found["input_ids"], dtype=np.int32)])
        return ids, np.concatenate([np.zeros(len(soft), dtype=bool), learned])

    def _places(self, messages: list[Message], answers: list[int], text: str) -> list[tuple[int, int]]:
        """Where these messages begin and end in the text."""
        spans = []
        for number in answers:
            before, until = self._write(messages[:number], prompt=True), self._write(messages[: number + 1]).rstrip()
            if not (text.startswith(before) and text.startswith(until) and len(before) < len(until)):
                raise ModelError(
                    "the chat template writes earlier turns otherwise once more follow: they can't be learned; "
                    "give conversations of one answer each"
                )
            spans.append((len(before), len(until)))
        return spans


def pack_conversations(
    conversations: Conversations, chat: ChatFormat, settings: ConversationSettings
) -> tuple[PackedSequences, PackedSequences | None]:
    """Training and validation conversations as packed sequences, or one in each; says how full they are.

    Raises:
        DataError, ModelError: as `tokenize_conversations`.
    """
    packed = {}
    for name, table in (("training", conversations.train), ("validation", conversations.validation)):
        if table is not None:
            pieces = tokenize_conversations(table, chat, settings.max_length)
            packed[name] = PackedSequences(pieces, settings.max_length, "decoder", each=None if settings.pack else 1)
            packed[name].tokens_per_byte = sum(pieces["answer_tokens"]) / sum(pieces["answer_bytes"])
            packed[name].say(name)
    return packed["training"], packed.get("validation")


def tokenize_conversations(table: Dataset, chat: ChatFormat, max_length: int) -> Dataset:
    """Conversations of at most `max_length` tokens: rows `input_ids` (see `hide`), `answer_tokens`,
    `answer_bytes` and `where`.

    Longer ones are left out and counted aloud: a cut answer would not end.

    Raises:
        DataError: where all are longer.
        ModelError: as `ChatFormat.encode`.
    """
    from datasets import Features, List, Value

    number = Value("int64")
    features = {"input_ids": List(Value("int32")), "answer_tokens": number, "answer_bytes": number}
    features["where"] = Value("string")

    def encode(batch: dict[str, list[str]]) -> dict[str, list[Any]]:
        rows: dict[str, list[Any]] = {name: [] for name in features}
        for text, where in zip(batch["text"], batch["where"], strict=True):
            messages = json.loads(text)
            try:
                ids, learned = chat.encode(messages)
            except ModelError as error:
                raise ModelError(f"{where}: {error}") from None
            if len(ids) <= max_length:
                answers = (message["content"] for message in messages if message["role"] == "assistant")
                rows["input_ids"].append(hide(ids, ~learned))
                rows["answer_tokens"].append(int(learned.sum()))
                rows["answer_bytes"].append(sum(len(answer.encode()) for answer in answers))
                rows["where"].append(where)
        return rows

    key = f"{chat.fingerprint} {table._fingerprint} {max_length} 1"
    encoded = table.map(
        encode,
        batched=True,
        remove_columns=table.column_names,
        features=Features(features),
        new_fingerprint=hashlib.sha256(key.encode()).hexdigest()[:32],
        desc="tokenizing",
    )
    longer = f"conversations are longer than --data.max_length {max_length}"
    soft = f", the {chat.num_soft_tokens} tokens of the prompt included" if chat.num_soft_tokens else ""
    say_left_out(table, encoded, longer + soft)
    return encoded


def say_left_out(table: Dataset, encoded: Dataset, why: str) -> None:
    """Warn of the rows of `table` of which `encoded` has nothing, by their column `where`.

    Raises:
        DataError: where it has nothing at all.
    """
    kept = set(encoded["where"])
    number = len(table) - len(kept)
    if not number:
        return
    first = next(where for where in table["where"] if where not in kept)
    words = f"{number:,} of {len(table):,} {why}"
    if not len(encoded):
        raise DataError(f"{words}: nothing is left; the first: {first}")
    console.warn(f"left out: {words}; the first: {first}")


def hide(ids: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Ids of which the `hidden` ones are read and never predicted: -1 - id stands for these."""
    return np.where(hidden, ~ids, ids)
