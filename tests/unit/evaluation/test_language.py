"""Bits per byte by hand, the unigram baseline, and samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from hfscale.data import PackedEvalBatches, next_tokens, pack_corpus
from hfscale.data.corpus import Corpus
from hfscale.evaluation import score_language_model, unigram_baseline, write_samples
from hfscale.models import load_causal_model
from hfscale.schemas import CausalModelSettings, SampleSettings
from tests.support.language import end_tokenizer, sentences


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


@pytest.fixture
def model() -> Any:
    settings = CausalModelSettings(hidden_size=32, num_layers=1, num_heads=2)
    return load_causal_model(settings, end_tokenizer(), 16, 0).model


@pytest.fixture(scope="module")
def packed() -> tuple[Any, Any]:
    import datasets

    def table(texts: list[str]) -> Any:
        return datasets.Dataset.from_dict({"text": texts, "where": texts})

    texts = sentences(20, seed=1)
    corpus = Corpus(table(sentences(40)), table(texts), sum(len(text) for text in texts))
    return pack_corpus(corpus, end_tokenizer(), 16, "decoder")


@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_bits_per_byte_of_a_model_that_takes_all_tokens_for_equally_likely(
    accelerator: Accelerator, model: Any, packed: tuple[Any, Any], num_processes: int
) -> None:
    torch.nn.init.zeros_(model.get_output_embeddings().weight)
    texts = sentences(20, seed=1)
    num_targets = sum(len(end_tokenizer()(text)["input_ids"]) + 1 for text in texts)  # and the end of each
    tokens_per_byte = num_targets / sum(len(text.encode()) for text in texts)
    assert packed[1].tokens_per_byte == tokens_per_byte
    for index in range(num_processes):
        batches = PackedEvalBatches(
            packed[1], next_tokens, pad_token_id=0, batch_size=6, process_index=index, num_processes=num_processes
        )
        found = score_language_model(accelerator, model, batches, tokens_per_byte)
        size = len(end_tokenizer())
        assert found["loss"] == pytest.approx(math.log(size), rel=1e-6)
        assert found["perplexity"] == pytest.approx(size, rel=1e-5)
        assert found["bits_per_byte"] == pytest.approx(math.log2(size) * tokens_per_byte, rel=1e-6)
    assert not model.training


def test_the_loss_is_the_mean_over_targets_and_not_over_batches(
    accelerator: Accelerator, model: Any, packed: tuple[Any, Any]
) -> None:
    losses = [
        score_language_model(
            accelerator, model, PackedEvalBatches(packed[1], next_tokens, pad_token_id=0, batch_size=size), 1.0
        )["loss"]
        for size in (1, 7, 64)
    ]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


def test_a_process_that_has_only_fillers_adds_nothing(
    accelerator: Accelerator, model: Any, packed: tuple[Any, Any]
) -> None:
    batches = PackedEvalBatches(
        packed[1], next_tokens, pad_token_id=0, batch_size=len(packed[1]), process_index=1, num_processes=2
    )
    assert len(list(batches)) == 1
    assert score_language_model(accelerator, model, batches, 1.0)["loss"] == 0


def test_unigram_baseline(packed: tuple[Any, Any]) -> None:
    train, held_out = packed
    seen, tokens = (
        np.concatenate([piece[1:] for row in range(len(part)) for piece in part.pieces_of(row)])
        for part in (train, held_out)
    )
    largest = max(piece.max() for row in range(len(train)) for piece in train.pieces_of(row))
    counts = dict(enumerate(np.bincount(seen, minlength=largest + 1).tolist()))
    total = sum(counts.values()) + len(counts)
    expected = -np.mean([math.log((counts[int(token)] + 1) / total) for token in tokens])
    found = unigram_baseline(train, held_out)
    assert found["loss"] == pytest.approx(expected)
    assert found["bits_per_byte"] == pytest.approx(expected / math.log(2) * held_out.tokens_per_byte)
    assert unigram_baseline(held_out, train)["loss"] > 0


def test_samples_begin_with_their_prompt_and_follow_the_seed(model: Any) -> None:
    tokenizer, settings = end_tokenizer(), SampleSettings(prompts=["the film", ""], max_new_tokens=6)
    model.train()
    before = torch.get_rng_state()
    first = write_samples(model, tokenizer, settings, 0)
    assert torch.equal(torch.get_rng_state(), before), "training's random numbers stay"
    assert model.training
    assert len(first) == 2 and first[0].startswith("the film ") and len(first[0].split()) <= 8
    assert write_samples(model, tokenizer, settings, 0) == first
    assert write_samples(model, tokenizer, settings, 1) != first
    coldest = SampleSettings(prompts=["the film"], max_new_tokens=6, temperature=0)
    assert write_samples(model, tokenizer, coldest, 0) == write_samples(model, tokenizer, coldest, 1)


def test_samples_end_where_the_model_does(model: Any, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = end_tokenizer()
    (text,) = write_samples(model, tokenizer, SampleSettings(prompts=["a " * 12], max_new_tokens=50, temperature=0), 0)
    assert 12 < len(text.split()) <= 15, "16 positions, the first of them the beginning of the document"
    prompt = "a " * 20
    capsys.readouterr()
    assert write_samples(model, tokenizer, SampleSettings(prompts=[prompt]), 0) == [prompt]
    assert "fills the model's 16 positions" in "".join(capsys.readouterr())
    assert write_samples(model, tokenizer, SampleSettings(max_new_tokens=0), 0) == []
