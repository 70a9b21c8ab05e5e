"""Conversations of three layouts as a model reads them: which tokens are answers, what is left out and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hfscale.data import ChatFormat, PackedEvalBatches, answer_tokens, load_conversations, pack_conversations
from hfscale.errors import DataError, HfscaleError, ModelError, SettingsError
from hfscale.models import prepare_language_model
from hfscale.schemas import ConversationSettings
from hfscale.training import language_model_loss
from tests.support.chat import CHATML, byte_tokenizer, questions, tiny_gpt, write_json

TALK = [
    {"role": "user", "content": "Hi."},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "Who?"},
    {"role": "assistant", "content": "Me."},
]


def settings(path: Path, **changed: Any) -> ConversationSettings:
    return ConversationSettings(train=str(path), **{"validation_fraction": 0.0, "max_length": 128, **changed})


def texts(path: Path, **changed: Any) -> list[Any]:
    return [json.loads(text) for text in load_conversations(settings(path, **changed)).train["text"]]


def test_three_layouts(tmp_path: Path) -> None:
    pair = [{"role": "user", "content": "Colour?\n\ngrass"}, {"role": "assistant", "content": "green"}]
    assert texts(write_json(tmp_path / "a.json", questions()))[0] == pair
    assert texts(write_json(tmp_path / "b.json", [{"prompt": "Colour?\n\ngrass", "completion": "green"}]))[0] == pair
    assert texts(write_json(tmp_path / "c.json", [{"prompt": pair[:1], "completion": pair[1:]}]))[0] == pair
    assert texts(write_json(tmp_path / "d.json", [{"messages": TALK}]))[0] == TALK


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (
            [{"question": "?", "answer": "!"}],
            "has the columns question, answer; conversations need messages, or prompt",
        ),
        ([{"messages": "Hi."}], "holds no list of messages"),
        ([{"messages": TALK[1:]}], "its roles are assistant, user, assistant; user and assistant must take turns"),
        ([{"messages": TALK[:1]}], "its roles are user; .* the last one answer"),
        (
            [{"messages": [{"role": "tool", "content": "x"}]}],
            "message 1 is of role 'tool', not system, user, assistant",
        ),
        ([{"messages": [{"role": "user", "content": " "}]}], "message 1 is empty"),
        ([{"messages": [{"role": "user"}]}], "message 1 has no text"),
        ([{"instruction": "Why?", "output": ""}], "no text in column output"),
        ([], "the file is empty"),
    ],
)
def test_what_is_no_conversation_is_refused(tmp_path: Path, rows: Any, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        texts(write_json(tmp_path / "rows.json", rows))


def test_bad_rows_can_be_left_out(tmp_path: Path, capsys: Any) -> None:
    path = write_json(tmp_path / "rows.json", [{"messages": TALK}, {"messages": TALK[1:]}])
    assert texts(path, bad_rows="skip") == [TALK]
    assert "left out 1 of 2 rows" in capsys.readouterr().err


def learned_text(chat: ChatFormat, tokenizer: Any, messages: Any) -> tuple[str, list[str]]:
    """What the model reads, and each run of what it learns."""
    ids, learned = chat.encode(messages)
    cuts = np.flatnonzero(np.diff(np.concatenate([[0], learned, [0]]).astype(int))).reshape(-1, 2)
    return tokenizer.decode(ids), [tokenizer.decode(ids[begin:end]) for begin, end in cuts]


def test_answers_and_their_ends_are_learned(tmp_path: Path) -> None:
    for template, given, first, end in [
        (None, "plain", " Hello!<|end|>", "<|end|>"),
        (None, "alpaca", "Hello!<|end|>", "<|end|>"),
        (CHATML, None, "Hello!<|stop|>", "<|stop|>"),
    ]:
        tokenizer = byte_tokenizer(template)
        chat = ChatFormat(tokenizer, settings(tmp_path, template=given, system="Be kind."))
        text, answers = learned_text(chat, tokenizer, TALK)
        assert answers == [first, first.replace("Hello!", "Me.")]
        assert "Be kind." in text and tokenizer.convert_ids_to_tokens(chat.end_token_id) == end
        prompt = tokenizer.decode(chat.prompt_ids(TALK[:1]))
        assert text.startswith(prompt + first)


def test_templates_that_can_not_be_learned_from_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"brings no chat template; name one with --data\.template plain or alpaca"):
        ChatFormat(byte_tokenizer(), settings(tmp_path))
    with pytest.raises(SettingsError, match=r"--data\.template has no effect"):
        ChatFormat(byte_tokenizer(CHATML), settings(tmp_path, template="plain"))
    with pytest.raises(ModelError, match="ends no answer"):
        ChatFormat(byte_tokenizer("{% for m in messages %}{{ m.content + '\n' }}{% endfor %}"), settings(tmp_path))
    forgets = CHATML.replace("m.content", "(m.content if loop.last or m.role != 'assistant' else '')")
    chat = ChatFormat(byte_tokenizer(forgets), settings(tmp_path))
    chat.encode(TALK[:2])
    with pytest.raises(ModelError, match="give conversations of one answer each"):
        chat.encode(TALK)


def test_an_end_that_is_no_token_is_refused(tmp_path: Path) -> None:
    template = CHATML.replace("<|stop|>", "<|im_end|>")  # of another model's vocabulary
    with pytest.raises(ModelError, match=r"ends answers with '<\|im_end\|>', of which its vocabulary has no token"):
        ChatFormat(byte_tokenizer(template), settings(tmp_path))
    ChatFormat(byte_tokenizer(CHATML.replace("<|stop|>", "~")), settings(tmp_path))  # one token, if no special one


def test_a_named_template_needs_an_end_of_text(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match=r"has no end-of-text token, which --data\.template alpaca writes"):
        ChatFormat(tokenizer, settings(tmp_path, template="alpaca"))


def test_a_conversation_that_the_template_refuses(tmp_path: Path) -> None:
    picky = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + CHATML
    talk = [{"role": "system", "content": "Be kind."}, *TALK]
    path = write_json(tmp_path / "rows.json", [{"messages": TALK}, {"messages": talk}])
    with pytest.raises(
        ModelError, match=r"rows\.json.* 2: the model's chat template takes no such .*: no system here"
    ):
        packed(path, byte_tokenizer(picky))


def test_the_answer_that_is_expected_is_the_one_learned(tmp_path: Path) -> None:
    """A template may write something before it, or after its end."""
    for template, expected in [(CHATML, "Me."), (CHATML.replace("m.content", "'<think></think>' + m.content"), None)]:
        chat = ChatFormat(byte_tokenizer(template), settings(tmp_path))
        assert chat.last_answer(TALK) == (expected or "<think></think>Me.")
    chat = ChatFormat(byte_tokenizer(), settings(tmp_path, template="plain"))
    assert chat.last_answer(TALK) == " Me."


def test_only_role_and_content_are_read(tmp_path: Path) -> None:
    told = [{"name": "Ann", "at": "2026-01-01T00:00:00", **message} for message in TALK]
    assert texts(write_json(tmp_path / "rows.json", [{"messages": told}])) == [TALK]


def packed(path: Path, tokenizer: Any, **changed: Any) -> Any:
    given = settings(path, **changed)
    conversations = load_conversations(given)
    return pack_conversations(conversations, ChatFormat(tokenizer, given), given)[0]


def test_packed_or_not_the_loss_is_the_same(tmp_path: Path) -> None:
    path, losses = write_json(tmp_path / "rows.json", questions()), []
    model = prepare_language_model(tiny_gpt(byte_tokenizer()))
    for pack in (True, False):
        sequences = packed(path, byte_tokenizer(CHATML), pack=pack)
        assert len(sequences) == (2 if pack else len(questions()))
        (batch,) = PackedEvalBatches(sequences, answer_tokens, pad_token_id=1, batch_size=16)
        with torch.no_grad():
            loss, number = language_model_loss(model, dict(batch.inputs))
        assert number == sum(len(row["output"]) + 1 for row in questions())
        losses.append(float(loss) / number)
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_the_end_is_learned_even_where_it_pads(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    sequences = packed(write_json(tmp_path / "rows.json", questions()), tokenizer, template="plain", pack=False)
    (batch,) = PackedEvalBatches(sequences, answer_tokens, pad_token_id=0, batch_size=16)
    assert (batch.inputs["labels"] == tokenizer.eos_token_id).sum(1).tolist() == [1] * len(questions())


def test_too_long_ones_are_left_out_and_counted(tmp_path: Path, capsys: Any) -> None:
    rows = [*questions(), {"instruction": "x" * 200, "output": "y"}]
    path = write_json(tmp_path / "rows.json", rows)
    packed(path, byte_tokenizer(CHATML))
    assert "1 of 7 conversations are longer than --data.max_length 128; the first: " in capsys.readouterr().err
    with pytest.raises(HfscaleError, match=r"7 of 7 conversations are longer than --data\.max_length 8"):
        packed(path, byte_tokenizer(CHATML), max_length=8)
