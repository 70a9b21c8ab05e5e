"""Pairs of answers of several layouts, as the model reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hfscale.data import ChatFormat, PackedTrainBatches, answer_tokens, load_preferences, pair_preferences
from hfscale.errors import DataError, ModelError
from hfscale.schemas import PairSettings
from tests.support.chat import CHATML, byte_tokenizer, write_json

ASKED = {"role": "user", "content": "Colour?"}
GREEN, RED = ({"role": "assistant", "content": word} for word in ("green", "red"))
EARLIER = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello!"}]


def settings(path: Path, **changed: Any) -> PairSettings:
    return PairSettings(train=str(path), **{"validation_fraction": 0.0, "max_length": 128, **changed})


def read(path: Path, rows: list[Any], **changed: Any) -> list[tuple[Any, Any]]:
    table = load_preferences(settings(write_json(path / "rows.json", rows), **changed)).train
    return [(json.loads(row["text"]), json.loads(row["rejected"])) for row in table]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Colour?", "chosen": "green", "rejected": "red"},
        {"prompt": [ASKED], "chosen": [GREEN], "rejected": [RED]},
        {"prompt": [ASKED], "chosen": "green", "rejected": "red"},
        {"prompt": "Colour?", "chosen": [GREEN], "rejected": [RED]},
        {"prompt": "Colour?", "chosen": [ASKED, GREEN], "rejected": [ASKED, RED]},
        {"prompt": [ASKED], "chosen": [ASKED, GREEN], "rejected": [ASKED, RED]},
        {"chosen": [ASKED, GREEN], "rejected": [ASKED, RED]},
    ],
)
def test_layouts(tmp_path: Path, row: Any) -> None:
    assert read(tmp_path, [row]) == [([ASKED, GREEN], [ASKED, RED])]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"prompt": "Colour?", "completion": "green"}, "preferences need prompt and chosen and rejected, or chosen"),
        ({"chosen": "green", "rejected": "red"}, "column chosen holds no list of messages, and .* no column prompt"),
        ({"chosen": [ASKED, GREEN], "rejected": [*EARLIER, ASKED, RED]}, "don't answer the same messages"),
        ({"prompt": "Colour?", "chosen": "red", "rejected": "red"}, "chosen and rejected are equal"),
        ({"chosen": [ASKED, GREEN], "rejected": [ASKED]}, "rejected: its roles are user;"),
        ({"prompt": "Colour?", "chosen": "green", "rejected": ""}, "no text in column rejected"),
    ],
)
def test_what_is_no_pair_is_refused(tmp_path: Path, row: Any, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        read(tmp_path, [row])


def test_the_last_answers_are_compared(tmp_path: Path, capsys: Any) -> None:
    """Side by side; pairs of which one is too long are left out and counted."""
    long = {"role": "assistant", "content": "green" * 40}
    rows = [{"chosen": [*EARLIER, ASKED, each], "rejected": [*EARLIER, ASKED, RED]} for each in (GREEN, long)]
    given = settings(write_json(tmp_path / "rows.json", rows))
    tokenizer = byte_tokenizer(CHATML)
    preferences = load_preferences(given)
    train, held_out = pair_preferences(preferences, ChatFormat(tokenizer, given), given)
    assert held_out is None and len(train) == 1
    assert "left out: 1 of 2" in capsys.readouterr().err
    sizes = {"global_batch_size": 1, "micro_batch_size": 1}
    inputs = PackedTrainBatches(train, answer_tokens, pad_token_id=1, seed=0, **sizes)[0][0].inputs
    for piece, word in ((1, "green"), (2, "red")):
        labels = inputs["labels"][inputs["piece_ids"] == piece]
        assert tokenizer.decode(labels[labels != -100]) == f"{word}<|stop|>"
        text = tokenizer.decode(inputs["input_ids"][inputs["piece_ids"] == piece])
        assert text.count("<|start|>") == 4 and "Hello!" in text
    second = inputs["piece_ids"] == 2
    assert inputs["position_ids"][second].tolist() == list(range(int(second.sum())))


def test_pairs_of_one_prompt_stand_on_one_side(tmp_path: Path, capsys: Any) -> None:
    rows = [
        {"prompt": f"Question {number}?", "chosen": f"good {answer}", "rejected": "bad"}
        for number in range(20)
        for answer in range(4)
    ]
    path = write_json(tmp_path / "rows.json", rows)
    split = load_preferences(settings(path, validation_fraction=0.2))
    assert split.validation is not None
    train, held_out = (set(table["prompt"]) for table in split)
    assert held_out and not train & held_out
    assert len(split.validation) == 4 * len(held_out)
    write_json(tmp_path / "other.json", [{**rows[0], "chosen": "another answer"}])
    load_preferences(settings(path, validation=str(tmp_path / "other.json"), validation_fraction=None))
    assert "4 of 80 training preferences also stand in the validation text" in capsys.readouterr().err


def test_pairs_that_are_written_alike_are_left_out(tmp_path: Path, capsys: Any) -> None:
    chat = ChatFormat(byte_tokenizer(CHATML.replace("m.content", "m.content|trim")), PairSettings(train="x"))
    rows = [{"prompt": "Colour?", "chosen": "green", "rejected": each} for each in ("green\n", "red")]
    given = settings(write_json(tmp_path / "rows.json", rows))
    assert len(pair_preferences(load_preferences(given), chat, given)[0]) == 1
    assert "left out: 1 of 2 pairs are longer than --data.max_length 128, or written alike" in capsys.readouterr().err


def test_earlier_turns_may_be_written_otherwise(tmp_path: Path) -> None:
    """As by templates that keep what a model thought in the last turn alone: that one is what is compared."""
    thinks = CHATML.replace(
        "m.content", "('<think></think>' if loop.last and m.role == 'assistant' else '') + m.content"
    )
    chat = ChatFormat(byte_tokenizer(thinks), PairSettings(train="x"))
    ids, learned = chat.encode_last([*EARLIER, ASKED, GREEN])
    assert chat.decode(ids[learned].tolist()) == "<think></think>green"
    with pytest.raises(ModelError, match="give conversations of one answer each"):
        chat.encode([*EARLIER, ASKED, GREEN])


def test_too_few_pairs_get_the_right_advice(tmp_path: Path) -> None:
    given = settings(write_json(tmp_path / "rows.json", [{"prompt": "?", "chosen": "a", "rejected": "b"}]))
    train, _ = pair_preferences(load_preferences(given), ChatFormat(byte_tokenizer(CHATML), given), given)
    with pytest.raises(DataError, match=r"give more, or --train\.global_batch_size 1 at most"):
        PackedTrainBatches(train, answer_tokens, pad_token_id=1, seed=0, global_batch_size=2, micro_batch_size=2)
