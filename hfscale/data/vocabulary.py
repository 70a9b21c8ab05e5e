"""Tokenizers: one that exists, or one trained on the training text, once, and kept in the cache.

Training gives the same tokenizer for the same text, in any process. The trainer of `tokenizers` alone does not: it
numbers WordPiece's single characters in the order of a hash table, and breaks ties between merges by these numbers.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hfscale import console
from hfscale.errors import DataError, ModelError, SettingsError
from hfscale.files import making_folder
from hfscale.network import asking_hub, plain_words
from hfscale.schemas import TokenizerSettings

if TYPE_CHECKING:
    from datasets import Dataset
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

Kind = Literal["wordpiece", "bpe"]
Reader = Literal["encoder", "decoder", "seq2seq"]
"""What the tokenizer is for: models that read texts and pairs of them, models that write, or that do both."""

_FORMAT = 2  # raise it when training changes: it is part of the cache's key
_VOCAB_SIZE = 8_000
_MIN_FREQUENCY = 2  # a merge seen once would make rare words of a small corpus into tokens, typing errors too
_MOST_CHARACTERS = 1_000  # as for BERT; rarer ones become [UNK]
_BATCH = 1_000  # texts
_TITLES = {"wordpiece": "WordPiece", "bpe": "byte-level BPE"}
_WORDPIECE_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_BPE_SPECIAL: dict[Reader, list[str]] = {
    "encoder": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],  # as RoBERTa's
    "decoder": ["<|endoftext|>", "<|pad|>"],
    "seq2seq": ["</s>", "<pad>"],
}
_OPTIONS: dict[tuple[Kind, Reader], dict[str, Any]] = {
    ("wordpiece", "encoder"): {
        **{f"{token.strip('[]').lower()}_token": token for token in _WORDPIECE_SPECIAL},
        # BERT's kin tell the two texts of a pair apart by their types; GPT-2's know none
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
    },
    ("bpe", "encoder"): {
        "bos_token": "<s>",
        "cls_token": "<s>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
        "model_input_names": ["input_ids", "attention_mask"],
    },
    ("bpe", "seq2seq"): {
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "model_input_names": ["input_ids", "attention_mask"],
    },
    ("bpe", "decoder"): {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|pad|>"},
}


def load_or_train_tokenizer(
    settings: TokenizerSettings, table: Dataset, reader: Reader, max_length: int
) -> PreTrainedTokenizerFast:
    """The tokenizer that `settings` names, else one trained on the column `text` (and `text_pair`) of `table`.

    Args:
        table: the training examples only; read in batches.
        reader: what the tokenizer is for; unless the settings say otherwise, an encoder's is WordPiece, a decoder's
            BPE.
        max_length: the result's `model_max_length`, in tokens.

    Raises:
        ModelError: for a name under which no tokenizer is found.
        SettingsError: for settings that don't go with the kind of tokenizer, or a kind that the reader can't use.
        DataError: where no row has text.
    """
    if settings.name is not None:
        return _load(settings.name, max_length)
    import datasets.config
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    kind: Kind = settings.kind or ("wordpiece" if reader == "encoder" else "bpe")
    vocab_size, lowercase = settings.vocab_size or _VOCAB_SIZE, settings.lowercase is not False
    _check(settings, kind, reader)
    key = (_FORMAT, tokenizers.__version__, table._fingerprint, kind, reader, vocab_size, lowercase)
    name = hashlib.sha256(repr(key).encode()).hexdigest()[:32]
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "hfscale-tokenizers" / name
    is_new = not (folder / "tokenizer.json").is_file()
    if is_new:
        if kind == "wordpiece":
            backend = _train_wordpiece(table, vocab_size, lowercase)
        else:
            backend = _train_bpe(table, vocab_size, reader)
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **_OPTIONS[kind, reader])
        with making_folder(folder) as temporary:
            tokenizer.save_pretrained(temporary)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, model_max_length=max_length)
    _say(tokenizer, kind, vocab_size, len(table), is_new)
    return tokenizer


def refuse_made_up(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """transformers makes up a tokenizer of special tokens alone where a folder comes without one.

    Raises:
        ModelError: for such a tokenizer.
    """
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ModelError(f"{name} comes without a tokenizer; put its files (tokenizer.json, ...) there")


def ensure_padding(tokenizer: PreTrainedTokenizerBase) -> None:
    """Decoders' tokenizers often come without a padding token: let their end token serve as one, and say so.

    Raises:
        ModelError: where there is none either.
    """
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ModelError(f"{tokenizer.name_or_path}: the tokenizer has neither a padding nor an end token")
        tokenizer.pad_token = tokenizer.eos_token
        console.warn(f"the tokenizer has no padding token; {tokenizer.eos_token} serves as one")


def _check(settings: TokenizerSettings, kind: Kind, reader: Reader) -> None:
    """What the schema can't tell where the recipe chooses the kind."""
    if (kind, reader) not in _OPTIONS:
        raise SettingsError(f"--tokenizer.kind {kind} has no end-of-text token, which this recipe needs; leave it out")
    least = len(_BPE_SPECIAL[reader]) + 256
    if kind == "bpe" and settings.vocab_size is not None and settings.vocab_size < least:
        raise SettingsError(
            f"--tokenizer.vocab_size must be at least {least} for byte-level BPE, got {settings.vocab_size}"
        )
    if kind == "bpe" and settings.lowercase is not None:
        raise SettingsError("--tokenizer.lowercase has no effect on byte-level BPE; leave it out")


def _load(name: str, max_length: int) -> PreTrainedTokenizerFast:
    from transformers import AutoTokenizer

    path = Path(name).expanduser()
    if not path.is_dir() and not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name):
        raise ModelError(f"no such tokenizer folder: {name}")
    source = str(path / "model" if (path / "model").is_dir() else path) if path.is_dir() else name  # a run folder
    asking = contextlib.nullcontext() if path.is_dir() else asking_hub(f"tokenizer {name}")
    with (
        plain_words(f"tokenizer {name}", "give the folder or the Hub id of one, or leave --tokenizer.name out"),
        asking,
    ):
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, model_max_length=max_length)
    refuse_made_up(tokenizer, name)
    ensure_padding(tokenizer)
    console.say(f"tokenizer  {name}, {len(tokenizer):,} tokens")
    return tokenizer


def _say(tokenizer: PreTrainedTokenizerBase, kind: Kind, vocab_size: int, num_texts: int, is_new: bool) -> None:
    line = f"tokenizer  trained {_TITLES[kind]}, {len(tokenizer):,} tokens, on {num_texts:,} texts"
    if len(tokenizer) < vocab_size:
        line += f" ({vocab_size:,} asked for, but no further piece occurs twice)"
    console.say(line + ("" if is_new else " (kept from an earlier run)"))


def _batches(table: Dataset) -> Iterator[list[str]]:
    """The texts, a batch at a time.

    Raises:
        DataError: at the end, where there was none.
    """
    columns = [name for name in ("text", "text_pair") if name in table.column_names]
    has_text = False
    for batch in table.select_columns(columns).with_format(None).iter(_BATCH):
        texts = [text for name in columns for text in batch[name] if text and not text.isspace()]  # type: ignore[index]
        has_text = has_text or bool(texts)
        yield texts
    if not has_text:
        raise DataError("the training examples hold no text to train a tokenizer on")


def _train_wordpiece(table: Dataset, vocab_size: int, lowercase: bool) -> Tokenizer:
    """WordPiece as BERT's (Wu et al. 2016, https://arxiv.org/abs/1609.08144), merged by frequency."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    room = (vocab_size - len(_WORDPIECE_SPECIAL)) // 2  # a character is a token twice: alone, and inside a word
    alphabet = _alphabet(table, backend, min(_MOST_CHARACTERS, room))
    # The trainer gives its special tokens the first numbers, in order: that fixes those of the characters too.
    inside = [f"##{character}" for character in alphabet if _continues_word(character, backend)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=_MIN_FREQUENCY,
        special_tokens=[*_WORDPIECE_SPECIAL, *inside],  # type: ignore[arg-type]
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=console.is_terminal() and console.is_main_process(),
    )
    backend.train_from_iterator(_batches(table), trainer)
    # A new one, because the trainer has declared the `##` pieces special.
    trained = Tokenizer(models.WordPiece(backend.get_vocab(), unk_token="[UNK]"))
    trained.normalizer, trained.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    trained.decoder = decoders.WordPiece()
    trained.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return trained


def _alphabet(table: Dataset, backend: Tokenizer, limit: int) -> list[str]:
    """The most frequent characters after normalization, in Unicode order.

    BERT's normalization maps each character by itself, so that it need not run over the whole text here.
    """
    raw: Counter[str] = Counter()
    for texts in _batches(table):
        raw.update("".join(texts))
    counts: Counter[str] = Counter()
    for character, count in raw.items():
        for part in backend.normalizer.normalize_str(character):
            counts[part] += 0 if part.isspace() else count
    frequent = sorted((part for part in counts if counts[part]), key=lambda part: (-counts[part], part))
    return sorted(frequent[:limit])


def _continues_word(character: str, backend: Tokenizer) -> bool:
    """False for punctuation and Chinese characters, which are words by themselves."""
    pieces = backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(f"a{character}"))
    return len(pieces) == 1


def _train_bpe(table: Dataset, vocab_size: int, reader: Reader) -> Tokenizer:
    """Byte-level BPE as GPT-2's (Radford et al. 2019): no text is out of its vocabulary. For an encoder texts are
    framed as RoBERTa's are; where they are to be written after reading they get an end."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=_MIN_FREQUENCY,
        special_tokens=list(_BPE_SPECIAL[reader]),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=console.is_terminal() and console.is_main_process(),
    )
    backend.train_from_iterator(_batches(table), trainer)
    if reader == "encoder":
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
    if reader == "seq2seq":
        backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    return backend
