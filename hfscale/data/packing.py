"""Documents -> pieces of at most a sequence's length -> full sequences, packed best-fit.

Token ids stand once, in a memory-mapped Arrow table, as pieces; a sequence is a list of piece numbers. A batch is
assembled from views of the table.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from hfscale import console
from hfscale.data.best_fit import Packing, pack_best_fit
from hfscale.data.tokenization import tokenizer_fingerprint
from hfscale.errors import DataError, ModelError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from hfscale.data.corpus import Corpus

Framing = Literal["encoder", "decoder"]
"""Which special tokens a piece gets: `[CLS] piece [SEP]`, or beginning and end around a whole document."""

_AT_ONCE = 2**22  # bytes of documents that are tokenized together: as lists of numbers they take a hundred times that
_CONTEXT = {"encoder": 2, "decoder": 1}  # tokens of a piece that stand in it for the others, and in each part again


def tokenize_corpus(table: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, framing: Framing) -> Dataset:
    """Pieces of all documents of a table with `text`: rows `input_ids`, at most `max_length` tokens with special ones.

    For an encoder every piece is framed by the tokenizer's class and separator tokens. For a decoder a document is
    framed by its beginning and end tokens (the end token serves as both where there is but one), and a longer one
    is cut so that a piece begins with the last token of the one before: each token is predicted exactly once.

    Raises:
        ModelError: for a tokenizer without these tokens.
    """
    from datasets import Features, List, Value

    first, last = _frame(tokenizer, framing)

    def cut(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        ids = tokenizer(batch["text"], add_special_tokens=False, return_attention_mask=False, verbose=False)
        split = _encoder_pieces if framing == "encoder" else _decoder_pieces
        return {
            "input_ids": [piece for tokens in ids["input_ids"] for piece in split(tokens, first, last, max_length)]
        }

    key = f"{tokenizer_fingerprint(tokenizer)} {table._fingerprint} {max_length} {framing} {first} {last} 1"
    average = max(1, table.data.nbytes // max(1, table.data.num_rows))
    return table.map(
        cut,
        batched=True,
        batch_size=max(1, min(1000, _AT_ONCE // average)),
        remove_columns=table.column_names,
        features=Features({"input_ids": List(Value("int32"))}),
        new_fingerprint=hashlib.sha256(key.encode()).hexdigest()[:32],
        desc="tokenizing",
    )


def _frame(tokenizer: Any, framing: Framing) -> tuple[int, int]:
    if framing == "encoder":
        first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    else:
        last = tokenizer.eos_token_id
        first = last if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if first is None or last is None:
        needed = "[CLS] and [SEP] tokens" if framing == "encoder" else "end-of-text token"
        raise ModelError(f"the tokenizer {tokenizer.name_or_path or ''} has no {needed}; choose another")
    return first, last


def _encoder_pieces(tokens: list[int], first: int, last: int, max_length: int) -> list[list[int]]:
    room = max_length - 2
    return [[first, *tokens[at : at + room], last] for at in range(0, len(tokens), room)]


def _decoder_pieces(tokens: list[int], first: int, last: int, max_length: int) -> list[list[int]]:
    whole = [first, *tokens, last]
    return [whole[at : at + max_length] for at in range(0, len(whole) - 1, max_length - 1)]


def pack_corpus(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, max_length: int, framing: Framing
) -> tuple[PackedSequences, PackedSequences | None]:
    """Training and validation text as packed sequences; says how full they are.

    Raises:
        ModelError: for a tokenizer without the special tokens that the framing needs.
        DataError: for a part without text.
    """
    packed = {}
    for name, table in (("training", corpus.train), ("validation", corpus.validation)):
        if table is not None:
            pieces = tokenize_corpus(table, tokenizer, max_length, framing)
            # Held-out text stays as it was cut, so that its bits per byte don't depend on what it is packed with.
            packed[name] = PackedSequences(pieces, max_length, framing, may_cut=name == "training")
            packed[name].say(name)
    held_out = packed.get("validation")
    if held_out is not None:
        held_out.tokens_per_byte = int(held_out.target_counts().sum()) / corpus.validation_bytes
    return packed["training"], held_out


class PackedSequences:
    """Sequences of pieces.

    Args:
        pieces: table with `input_ids`, no piece longer than `max_length`.
        framing: says which tokens of a piece are never predicted.
        may_cut: cut some pieces where whole ones would leave much room (`pack_best_fit`).
        each: give so many pieces in a row a sequence, padded as its batch needs it, instead of packing them.

    Raises:
        DataError: for a table without pieces.
    """

    tokens_per_byte: float = math.nan
    """Tokens to predict per UTF-8 byte of the text; known of validation text."""

    def __init__(
        self, pieces: Dataset, max_length: int, framing: Framing, *, may_cut: bool = False, each: int | None = None
    ) -> None:
        if not len(pieces):
            raise DataError("the corpus holds no text that the tokenizer knows")
        self.max_length, self._framing, self.is_packed = max_length, framing, each is None
        self._views = _views(pieces)
        lengths = np.concatenate([np.diff(view.offsets) for view in self._views])
        self._first_of_view = np.cumsum([0, *(len(view.offsets) - 1 for view in self._views)])
        if each is None:
            self._packing = pack_best_fit(lengths, max_length, _CONTEXT[framing] if may_cut else None)
        else:
            self._packing = Packing(np.arange(len(lengths)), np.arange(0, len(lengths) + 1, each), {})
        self._num_pieces = len(lengths)
        again = len(self._packing.pieces) - self._num_pieces
        self.num_tokens = int(lengths.sum()) + again * _CONTEXT[framing]

    def __len__(self) -> int:
        return len(self._packing.starts) - 1

    @property
    def fill(self) -> float:
        """Share of all positions that hold real tokens; not a number where each batch has a length of its own."""
        return self.num_tokens / (len(self) * self.max_length) if self.is_packed else math.nan

    def content(self) -> Iterator[np.ndarray]:
        """All token ids, and where the pieces begin, as they lie in memory."""
        for view in self._views:
            yield np.ascontiguousarray(view.offsets)
            yield np.ascontiguousarray(view.values)

    def target_counts(self) -> np.ndarray:
        """(largest token id + 1,) how often each token is one to predict: not the first of a piece, before which
        nothing stands, nor the special tokens around an encoder's."""
        counts = np.zeros(max(int(view.values.max()) for view in self._views) + 1, dtype=np.int64)
        for view in self._views:
            counts += np.bincount(view.values[view.offsets[0] : view.offsets[-1]], minlength=len(counts))
            counts -= np.bincount(view.values[view.offsets[:-1]], minlength=len(counts))
            if self._framing == "encoder":
                counts -= np.bincount(view.values[view.offsets[1:] - 1], minlength=len(counts))
        return counts

    def pieces_of(self, sequence: int) -> list[np.ndarray]:
        """Token ids, int32, of each piece of a sequence, or of the part of it that stands there."""
        begin, end = self._packing.starts[sequence : sequence + 2].tolist()
        return [self._part(entry) for entry in range(begin, end)]

    def _part(self, entry: int) -> np.ndarray:
        piece = self._piece(int(self._packing.pieces[entry]))
        if entry not in self._packing.cuts:
            return piece
        begin, end = self._packing.cuts[entry]
        if self._framing == "decoder":
            return piece[begin : end + 1]
        return np.concatenate([piece[:1], piece[1 + begin : 1 + end], piece[-1:]])

    def _piece(self, number: int) -> np.ndarray:
        at = int(np.searchsorted(self._first_of_view, number, side="right")) - 1
        view, row = self._views[at], number - self._first_of_view[at]
        return view.values[view.offsets[row] : view.offsets[row + 1]]

    def say(self, name: str) -> None:
        """One line about what was packed."""
        if not self.is_packed:
            return console.say(
                f"sequences  {name}: {self.num_tokens:,} tokens in {len(self):,} of at most {self.max_length}"
            )
        num_cut = len({int(self._packing.pieces[entry]) for entry in self._packing.cuts})
        console.say(
            f"packed     {name}: {self.num_tokens:,} tokens in {len(self):,} sequences of {self.max_length}, "
            f"{self.fill:.1%} of the positions real tokens"
            + (f", {num_cut:,} of {self._num_pieces:,} pieces cut for that" if num_cut else "")
        )


class _View(NamedTuple):
    """One memory-mapped chunk of the column: all its values, and where each piece begins."""

    values: np.ndarray
    offsets: np.ndarray


def _views(pieces: Dataset) -> list[_View]:
    chunks = pieces.with_format("arrow").data.column("input_ids").chunks
    assert pieces._indices is None, "a freshly mapped table has no indices"
    return [
        _View(chunk.values.to_numpy(zero_copy_only=True), chunk.offsets.to_numpy(zero_copy_only=True))
        for chunk in chunks
        if len(chunk)
    ]
