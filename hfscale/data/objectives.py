"""What a language model has to predict: labels of a batch of packed sequences.

An objective is a function (input_ids, piece_ids, rows, epoch) -> (input_ids, labels), arrays of shape (batch, seq);
`labels` holds the token to predict at a position, and -100 where nothing is. What it draws depends on the seed, the
epoch, the sequence and the position alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from hfscale.errors import ModelError, SettingsError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Objective = Callable[[np.ndarray, np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]

HELD_OUT = 2**32 - 1
"""The epoch of held-out text: it is masked the same way at each evaluation of every run, and as in no epoch of
training."""
IGNORED = -100
"""Label of a position where nothing is predicted; the value that PyTorch's cross entropy ignores."""


def next_tokens(ids: np.ndarray, pieces: np.ndarray, rows: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """Causal language modelling: at each position the next token of the same piece."""
    labels = np.full_like(ids, IGNORED)
    same = (pieces[:, :-1] == pieces[:, 1:]) & (pieces[:, 1:] > 0)
    labels[:, :-1][same] = ids[:, 1:][same]
    return ids, labels


def answer_tokens(ids: np.ndarray, pieces: np.ndarray, rows: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """Causal language modelling of what is not hidden: ids below 0, which stand for -1 - id, are only read."""
    hidden, ids = ids < 0, np.where(ids < 0, ~ids, ids)
    _, labels = next_tokens(ids, pieces, rows, epoch)
    labels[:, :-1][hidden[:, 1:]] = IGNORED
    return ids, labels


class MaskedTokens:
    """Masked language modelling (Devlin et al. 2019): of the chosen tokens 80% are masked, 10% random, 10% kept.

    Args:
        fraction: share of tokens, or of whole words, that are chosen; special tokens never are.
        whole_words: choose all tokens of a word together.
        max_length: tokens per sequence; draws are made for all of them, so that they don't depend on the batch.

    Raises:
        ModelError: for a tokenizer without a mask token.
        SettingsError: for whole words with a tokenizer whose words can't be told apart.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, fraction: float, whole_words: bool, seed: int, max_length: int
    ) -> None:
        if tokenizer.mask_token_id is None:
            raise ModelError(f"the tokenizer {tokenizer.name_or_path or ''} has no mask token; choose another")
        self._mask, self._fraction = tokenizer.mask_token_id, fraction
        self._seed, self._max_length = seed, max_length
        self._is_special = np.zeros(len(tokenizer), dtype=bool)
        self._is_special[tokenizer.all_special_ids] = True
        self._ordinary = np.flatnonzero(~self._is_special)
        self._starts_word = _word_starts(tokenizer) if whole_words else None

    def __call__(
        self, ids: np.ndarray, pieces: np.ndarray, rows: np.ndarray, epoch: int
    ) -> tuple[np.ndarray, np.ndarray]:
        width = ids.shape[1]
        seed = 0 if epoch == HELD_OUT else self._seed
        draws = np.stack([np.random.default_rng([seed, epoch, row]).random((3, self._max_length)) for row in rows])
        choose, how, replacement = draws[:, :, :width].transpose(1, 0, 2)
        if self._starts_word is not None:
            choose = self._shared_by_words(choose, ids, pieces)
        chosen = (choose < self._fraction) & (pieces > 0) & ~self._is_special[ids]
        labels = np.where(chosen, ids, IGNORED)
        random = self._ordinary[(replacement * len(self._ordinary)).astype(np.int64)]
        corrupted = np.where(how < 0.8, self._mask, np.where(how < 0.9, random, ids))
        return np.where(chosen, corrupted, ids), labels

    def _shared_by_words(self, draws: np.ndarray, ids: np.ndarray, pieces: np.ndarray) -> np.ndarray:
        """Each token's draw replaced by that of its word's first token."""
        assert self._starts_word is not None
        starts = self._starts_word[ids] | self._is_special[ids]
        starts[:, 1:] |= (pieces[:, 1:] != pieces[:, :-1]) | self._is_special[ids[:, :-1]]
        starts[:, 0] = True
        first = np.maximum.accumulate(np.where(starts, np.arange(ids.shape[1]), 0), axis=1)
        return np.take_along_axis(draws, first, axis=1)


def _word_starts(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """(vocabulary,) whether a token begins a word. WordPiece marks the others, BPE and SentencePiece these."""
    tokens = [str(token) for token in tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))]
    marks = ("Ġ", "Ċ", "ĉ", "▁")  # byte-level for space, newline and tab; SentencePiece's space
    starts = np.array([token.startswith(marks) for token in tokens])
    continues = np.array([token.startswith("##") for token in tokens])
    if continues.sum() > starts.sum():  # GPT-2's vocabulary has "##" too, as text
        return ~continues
    if not starts.any():
        raise SettingsError(
            "--mask.whole_words has no effect: this tokenizer's words can't be told apart; leave it out"
        )
    return starts
