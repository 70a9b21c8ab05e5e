"""Tokenizers that are loaded, and ones that are trained: the same text gives the same tokenizer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import datasets
import pytest

from hfscale.data import load_or_train_tokenizer
from hfscale.errors import DataError, ModelError, SettingsError
from hfscale.schemas import TokenizerSettings
from tests.support.commands import ROOT, run
from tests.support.tiny import WORDS, reviews

TEXTS = [row["text"] for row in reviews(200)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache" / "hfscale-tokenizers"


def train(texts: list[str], kind: Any = None, max_length: int = 32, reader: Any = None, **settings: Any) -> Any:
    table = datasets.Dataset.from_dict({"text": texts})
    reader = reader or ("decoder" if kind == "bpe" else "encoder")
    return load_or_train_tokenizer(TokenizerSettings(kind=kind, **settings), table, reader, max_length)


def test_wordpiece_is_like_berts() -> None:
    tokenizer = train([*TEXTS, "a b c d e f"])
    assert tokenizer.convert_ids_to_tokens(range(5)) == SPECIAL
    assert (tokenizer.pad_token_id, tokenizer.mask_token) == (0, "[MASK]")
    assert tokenizer.model_max_length == 32
    assert set(WORDS) <= set(tokenizer.get_vocab())
    pair = tokenizer("The FILM, bad", "good")
    assert tokenizer.convert_ids_to_tokens(pair["input_ids"]) == [
        "[CLS]", "the", "film", "[UNK]", "bad", "[SEP]", "good", "[SEP]",
    ]  # fmt: skip
    assert pair["token_type_ids"] == [0, 0, 0, 0, 0, 0, 1, 1]
    assert tokenizer.decode(tokenizer("fade")["input_ids"], skip_special_tokens=True) == "fade"
    assert "##" not in "".join(tokenizer.all_special_tokens)


def test_case_is_kept_where_asked() -> None:
    kept = train(["Film film Film film"] * 5, lowercase=False)
    assert {"Film", "film"} <= set(kept.get_vocab())
    assert "Film" not in train(["Film film Film film"] * 5).get_vocab()


def test_byte_level_bpe_loses_nothing() -> None:
    tokenizer = train(TEXTS, kind="bpe", vocab_size=400)
    assert len(tokenizer) <= 400
    assert tokenizer.eos_token == tokenizer.bos_token == "<|endoftext|>"
    assert tokenizer.pad_token == "<|pad|>"
    ids = tokenizer("Ünheard 中国 \n film")["input_ids"]
    assert tokenizer.decode(ids) == "Ünheard 中国 \n film"
    assert tokenizer("film").keys() == {"input_ids", "attention_mask"}


@pytest.mark.parametrize("kind, size", [("wordpiece", 64), ("wordpiece", 120), ("bpe", 258), ("bpe", 300)])
def test_no_more_tokens_than_asked_for(kind: str, size: int) -> None:
    texts = TEXTS + [chr(number) * 3 for number in range(0x400, 0x500)]
    assert len(train(texts, kind=kind, vocab_size=size)) <= size


def test_chinese_characters_and_punctuation_take_no_second_token() -> None:
    vocabulary = train(["国 国 国! film! film"] * 3).get_vocab()
    assert {"国", "!", "##m"} <= set(vocabulary)
    assert not {"##国", "##!"} & set(vocabulary)


_SCRIPT = """
import json, sys, datasets
from hfscale.data import load_or_train_tokenizer
from hfscale.schemas import TokenizerSettings
texts = json.load(open(sys.argv[1]))
for reader in ("encoder", "decoder"):
    table = datasets.Dataset.from_dict({"text": texts})
    tokenizer = load_or_train_tokenizer(TokenizerSettings(vocab_size=500), table, reader, 32)
    ids = [tokenizer(text)["input_ids"] for text in texts[:50]]
    print("trained:", json.dumps([sorted(tokenizer.get_vocab().items()), ids]))
"""


def test_bpe_for_an_encoder_frames_texts_as_robertas_does() -> None:
    tokenizer = train(TEXTS, kind="bpe", reader="encoder", vocab_size=400)
    assert tokenizer.convert_ids_to_tokens(range(5)) == ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("a", "b")["input_ids"])
    assert tokens == ["<s>", "a", "</s>", "</s>", "b", "</s>"]
    assert (tokenizer.mask_token, tokenizer.cls_token, tokenizer.sep_token) == ("<mask>", "<s>", "</s>")


def test_a_decoder_needs_an_end_of_text() -> None:
    with pytest.raises(SettingsError, match=r"--tokenizer\.kind wordpiece has no end-of-text token"):
        train(TEXTS, kind="wordpiece", reader="decoder")


def test_two_processes_train_the_same(tmp_path: Path) -> None:
    lines = (ROOT / "hfscale/data/builtin/tickets/train.jsonl").read_text(encoding="utf-8").splitlines()
    (tmp_path / "texts.json").write_text(json.dumps([json.loads(line)["text"] for line in lines]))
    outputs = []
    for number in range(2):  # each with a cache of its own
        env = {"HF_DATASETS_CACHE": str(tmp_path / f"cache{number}")}
        finished = run("-c", _SCRIPT, tmp_path / "texts.json", env=env)
        assert finished.returncode == 0, finished.stderr
        outputs.append(re.findall("trained: .*", finished.stdout))
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) == 2


def test_trained_once(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = train(TEXTS)
    assert "earlier run" not in capsys.readouterr().out
    again = train(TEXTS, max_length=8)
    assert "(kept from an earlier run)" in capsys.readouterr().out
    assert again.get_vocab() == first.get_vocab() and again.model_max_length == 8
    assert len(list(cache.iterdir())) == 1
    train(TEXTS[:-1])
    train(TEXTS, vocab_size=100)
    assert len(list(cache.iterdir())) == 3


def test_both_texts_of_a_pair_are_read() -> None:
    table = datasets.Dataset.from_dict({"text": ["film film"], "text_pair": ["plot plot"]})
    tokenizer = load_or_train_tokenizer(TokenizerSettings(), table, "encoder", 32)
    assert {"film", "plot"} <= set(tokenizer.get_vocab())


def test_fewer_tokens_than_asked_for_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    size = len(train(TEXTS, vocab_size=5000))
    said = capsys.readouterr().out
    assert f"tokenizer  trained WordPiece, {size} tokens, on 200 texts (5,000 asked for" in said


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
@pytest.mark.parametrize("texts", [["", " \n"], []])
def test_no_text_is_refused(texts: list[str], kind: str, cache: Path) -> None:
    with pytest.raises(DataError, match="no text to train a tokenizer on"):
        train(texts, kind=kind)
    assert not cache.exists() or not list(cache.iterdir())


@pytest.mark.parametrize("settings", [{"vocab_size": 200}, {"lowercase": True}])
def test_settings_that_do_not_go_with_the_recipes_kind(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"--tokenizer.{next(iter(settings))}"):
        train(TEXTS, reader="decoder", **settings)


def test_an_existing_tokenizer(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = train([], name=str(tiny_model), max_length=16)
    assert len(tokenizer) == 25 and tokenizer.model_max_length == 16
    assert "25 tokens" in capsys.readouterr().out


def test_a_run_folder_stands_for_its_tokenizer(tiny_tokenizer: Any, tmp_path: Path) -> None:
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    assert train([], name=str(tmp_path)).get_vocab() == tiny_tokenizer.get_vocab()


@pytest.mark.parametrize(
    "name, expected",
    [
        ("/nowhere/tokenizer", "no such tokenizer folder: /nowhere/tokenizer"),
        ("no-such-owner-here/no-such", "the Hub can't be reached and there is no cached copy"),
    ],
)
def test_a_tokenizer_that_cannot_be_had(name: str, expected: str) -> None:
    with pytest.raises(ModelError) as caught:
        train([], name=name)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        train([], name=str(tmp_path))
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
