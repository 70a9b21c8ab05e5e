"""Words and tokens: each word has its tag at its first token, once, however long the sentence."""

from __future__ import annotations

from typing import Any

import pytest

from hfscale.data import Labels, tokenize
from hfscale.data.subwords import word_windows

TASK: Any = "token_classification"


def table_of(sentences: list[list[str]], tags: list[list[str]]) -> Any:
    import datasets

    where = [f"made.txt line {number}" for number in range(1, len(sentences) + 1)]
    return datasets.Dataset.from_dict({"words": sentences, "label": tags, "where": where})


@pytest.fixture(scope="module")
def bytes_tokenizer() -> Any:
    """Bytes as tokens, the blank before a word being its part, as GPT-2's kin do."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={name: n for n, name in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=["input_ids", "attention_mask"])


def test_the_first_token_of_a_word_carries_its_tag(tiny_tokenizer: Any) -> None:
    table = table_of([["good-film", "the", "bad"], ["cast"]], [["B-X", "O", "I-X"], ["O"]])
    labels = Labels(TASK, ("B-X", "I-X", "O"))
    encoded = tokenize(table, tiny_tokenizer, 64, labels)
    tokens = [tiny_tokenizer.convert_ids_to_tokens(ids) for ids in encoded["input_ids"]]
    assert tokens[0] == ["[CLS]", "good", "[UNK]", "film", "the", "bad", "[SEP]"]
    assert encoded["token_labels"][0] == [-100, 0, -100, -100, 2, 0, -100]  # I-X after O begins an entity: B-X
    assert list(encoded["example"]) == [0, 1] and list(encoded["length"]) == [7, 3]


@pytest.mark.parametrize("max_length", [4, 5, 7, 16])
def test_long_sentences_are_split_at_words(
    tiny_tokenizer: Any, max_length: int, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["good", "film", "bad-cast", "the", "a-a-a-a-a-a", "plot", "was", "slow", "fine"]
    table = table_of([["good"], words], [["O"], [f"T{n}" for n in range(9)]])
    labels = Labels(TASK, ("O", *(f"T{n}" for n in range(9))))
    encoded = tokenize(table, tiny_tokenizer, max_length, labels)
    assert max(encoded["length"]) <= max_length
    found = [target for labels in encoded["token_labels"] for target in labels if target != -100]
    assert found == [0, *range(1, 10)], "each word once, in order"
    assert [word for part in encoded["words"] for word in part] == ["good", *words]
    assert "1 of 2 sentences were split" in capsys.readouterr().out


def test_a_word_that_the_tokenizer_drops_stays_a_word(tiny_tokenizer: Any) -> None:
    (window,) = word_windows(tiny_tokenizer, [["good", "\u200b\x07", "film"]], 64)
    tokens = tiny_tokenizer.convert_ids_to_tokens(window.inputs["input_ids"])
    assert [tokens[position] for position in window.first_tokens] == ["good", "[UNK]", "film"]


def test_tokenizers_without_token_types_and_special_tokens(bytes_tokenizer: Any) -> None:
    windows = list(word_windows(bytes_tokenizer, [["ab", "cde", "f"]], 7))
    assert [window.first_word for window in windows] == [0, 2]
    assert [window.first_tokens for window in windows] == [[0, 3], [0]]
    assert all(list(window.inputs) == ["input_ids"] for window in windows)
