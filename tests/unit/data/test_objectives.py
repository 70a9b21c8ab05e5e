"""What is predicted: the next token of the same document, or masked tokens, drawn alike whoever asks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hfscale.data.objectives import HELD_OUT, IGNORED, MaskedTokens, next_tokens
from hfscale.errors import ModelError, SettingsError

CLS, SEP, MASK = 2, 3, 4
ROWS, WIDTH = 40, 64


@pytest.fixture(scope="module")
def batch(tiny_tokenizer: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(ids, pieces, rows): two documents a row, a quarter of the row padded."""
    draw = np.random.default_rng(0)
    ids = draw.integers(5, len(tiny_tokenizer), size=(ROWS, WIDTH))
    pieces = np.repeat(np.repeat([[1, 2, 0]], ROWS, 0), [24, 24, 16], axis=1)
    ids[:, [0, 24]], ids[:, [23, 47]], ids[:, 48:] = CLS, SEP, 0
    return ids, pieces, np.arange(100, 100 + ROWS)


def masked(tokenizer: Any, **changed: Any) -> MaskedTokens:
    return MaskedTokens(
        tokenizer, **{"fraction": 0.15, "whole_words": False, "seed": 0, "max_length": WIDTH, **changed}
    )


def test_next_tokens_never_cross_documents() -> None:
    ids = np.array([[5, 6, 7, 8, 9, 0, 0], [5, 6, 7, 8, 9, 10, 11]])
    pieces = np.array([[1, 1, 1, 2, 2, 0, 0], [1, 2, 2, 2, 2, 3, 3]])
    same, labels = next_tokens(ids, pieces, np.arange(2), 0)
    assert same is ids
    assert labels.tolist() == [[6, 7, -100, 9, -100, -100, -100], [-100, 7, 8, 9, -100, 11, -100]]


def test_shares_of_masked_random_and_kept_tokens(tiny_tokenizer: Any) -> None:
    size = 4000
    ids = np.random.default_rng(1).integers(5, len(tiny_tokenizer), size=(size, WIDTH))
    corrupted, labels = masked(tiny_tokenizer)(ids, np.ones_like(ids), np.arange(size), 0)
    chosen = labels != IGNORED
    num, count = ids.size, int(chosen.sum())

    def near(found: int, share: float, of: int) -> bool:  # within five standard deviations
        return abs(found - share * of) < 5 * np.sqrt(share * (1 - share) * of)

    assert near(count, 0.15, num)
    assert (labels[chosen] == ids[chosen]).all()
    assert (corrupted[~chosen] == ids[~chosen]).all()
    assert near(int((corrupted[chosen] == MASK).sum()), 0.8, count)
    ordinary = len(tiny_tokenizer) - 5
    changed = (corrupted[chosen] != MASK) & (corrupted[chosen] != ids[chosen])
    assert near(int(changed.sum()), 0.1 * (1 - 1 / ordinary), count)
    drawn = corrupted[chosen][changed]
    assert set(drawn) == set(range(5, len(tiny_tokenizer))), "every ordinary token is drawn, no special one"
    assert chosen[:, 0].any() and chosen[:, -1].any()


@pytest.mark.parametrize("whole_words", [False, True])
def test_special_tokens_and_padding_are_never_chosen(wordpiece: Any, whole_words: bool, batch: Any) -> None:
    ids, pieces, rows = batch
    mask = masked(wordpiece, fraction=0.9, whole_words=whole_words)
    corrupted, labels = mask(ids, pieces, rows, 0)
    special = np.isin(ids, wordpiece.all_special_ids)
    assert (labels[special] == IGNORED).all()
    assert (corrupted[special] == ids[special]).all()
    assert (labels[~special] != IGNORED).mean() > 0.8


def test_held_out_text_is_masked_alike_in_runs_of_any_seed(tiny_tokenizer: Any, batch: Any) -> None:
    first, other = (masked(tiny_tokenizer, seed=seed)(*batch, HELD_OUT)[1] for seed in (0, 1))
    assert (first == other).all()


def test_the_same_draws_in_any_batch_and_other_ones_in_another_epoch(tiny_tokenizer: Any, batch: Any) -> None:
    ids, pieces, rows = batch
    mask = masked(tiny_tokenizer)
    corrupted, labels = mask(ids, pieces, rows, 3)
    again = masked(tiny_tokenizer)(ids, pieces, rows, 3)
    assert (again[0] == corrupted).all() and (again[1] == labels).all()
    for row in (0, 7, ROWS - 1):  # alone, and without its padding
        one = mask(ids[row : row + 1, :48], pieces[row : row + 1, :48], rows[row : row + 1], 3)
        assert (one[0][0] == corrupted[row, :48]).all()
        assert (one[1][0] == labels[row, :48]).all()
    for other in (mask(ids, pieces, rows, 4), masked(tiny_tokenizer, seed=1)(ids, pieces, rows, 3)):
        assert (other[1] != labels).any(axis=1).mean() > 0.9, "nearly every sequence is masked in another way"
    assert (mask(ids, pieces, rows + 1, 3)[1] != labels).any()


@pytest.fixture(scope="module")
def wordpiece() -> Any:
    """WordPiece in which `abc` is a, ##b, ##c."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmn", *(f"##{letter}" for letter in "abcdef")]
    backend = Tokenizer(models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = {f"{token.strip('[]').lower()}_token": token for token in tokens[:5]}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


@pytest.fixture(scope="module")
def byte_level() -> Any:
    """Byte-level BPE without merges: a token per character, the blank with the word behind it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<s>", "</s>", "<pad>", "<mask>", *letters, *(f"Ġ{letter}" for letter in "abcdef"), "##"]
    merges = [("Ġ", letter) for letter in "abcdef"]
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    names = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "mask_token": "<mask>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


@pytest.mark.parametrize("name", ["wordpiece", "byte_level"])
def test_whole_words_are_masked_together(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(name)
    draw = np.random.default_rng(0)
    words = ["".join(draw.choice(list("abcdef"), size=draw.integers(1, 5))) for _ in range(3000)]
    per_word = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
    if name == "byte_level":
        per_word[1:] = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in words[1:]]
    assert max(map(len, per_word)) > 1
    ids = np.array([[token for word in per_word for token in word]])
    word_of = np.repeat(np.arange(len(words)), list(map(len, per_word)))
    mask = masked(tokenizer, fraction=0.3, whole_words=True, max_length=ids.shape[1])
    labels = mask(ids, np.ones_like(ids), np.array([0]), 0)[1][0]
    chosen = np.array([{bool(flag) for flag in labels[word_of == word] != IGNORED} == {True} for word in range(3000)])
    partly = [word for word in range(3000) if len(set((labels[word_of == word] != IGNORED).tolist())) > 1]
    assert not partly
    assert 0.25 < chosen.mean() < 0.35
    apart = masked(tokenizer, fraction=0.3, max_length=ids.shape[1])(ids, np.ones_like(ids), np.array([0]), 0)[1][0]
    assert any(len(set((apart[word_of == word] != IGNORED).tolist())) > 1 for word in range(100))


def test_a_word_ends_with_its_document(wordpiece: Any) -> None:
    inside = wordpiece.convert_tokens_to_ids("##b")
    ids = np.full((200, 4), inside)  # both documents begin inside a word
    pieces = np.repeat([[1, 1, 2, 2]], 200, 0)
    mask = masked(wordpiece, fraction=0.5, whole_words=True, max_length=4)
    chosen = mask(ids, pieces, np.arange(200), 0)[1] != IGNORED
    assert (chosen[:, 0] == chosen[:, 1]).all() and (chosen[:, 2] == chosen[:, 3]).all()
    assert (chosen[:, 1] != chosen[:, 2]).any()


def test_tokenizers_that_can_not_mask(tiny_tokenizer: Any) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a")))
    with pytest.raises(ModelError, match="no mask token"):
        masked(bare)
    with pytest.raises(SettingsError, match=r"--mask.whole_words has no effect"):
        masked(tiny_tokenizer, whole_words=True)
