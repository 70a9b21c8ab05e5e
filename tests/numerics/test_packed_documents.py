"""Documents that share a sequence train exactly as each would alone, in every architecture that the recipes offer."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from hfscale.errors import ModelError
from hfscale.models import prepare_language_model
from tests.support.language import language_model

ROWS = [[9, 3, 14, 1], [17, 2], [30]]  # tokens of each document; the shorter rows are padded
WINDOW = 6  # shorter than the longest documents
MASKED = ("bert", "roberta", "electra", "modernbert")
CAUSAL = ("gpt2", "llama", "qwen3", "mistral", "qwen2", "gemma3_text")
EVERY = [(kind, attention) for kind in MASKED + CAUSAL for attention in ("sdpa", "eager")]


def packed_rows(causal: bool) -> tuple[dict[str, torch.Tensor], list[tuple[int, int, int]]]:
    """Inputs of one forward pass over `ROWS`, and (row, begin, end) of each document."""
    width = max(map(sum, ROWS))
    inputs = {name: torch.zeros(len(ROWS), width, dtype=torch.int64) for name in ("input_ids", "piece_ids")}
    inputs |= {"position_ids": torch.zeros_like(inputs["input_ids"]), "labels": torch.full((len(ROWS), width), -100)}
    draw, documents = torch.Generator().manual_seed(0), []
    for row, lengths in enumerate(ROWS):
        for number, (end, length) in enumerate(zip(itertools.accumulate(lengths), lengths, strict=True), start=1):
            place = (row, slice(end - length, end))
            ids = torch.randint(5, 61, (length,), generator=draw)
            inputs["input_ids"][place], inputs["piece_ids"][place] = ids, number
            inputs["position_ids"][place] = torch.arange(length)
            inputs["labels"][row, end - length : end - causal] = ids[1:] if causal else ids
            documents.append((row, end - length, end))
    return inputs, documents


def logits_of(loss: Any, model: Any, inputs: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """(targets, vocabulary) what the loss is computed from."""
    monkeypatch.setattr(loss, "linear_cross_entropy", lambda features, layer, targets: layer(features))
    with torch.no_grad():
        logits = model(**inputs)
    monkeypatch.undo()
    return logits


@pytest.mark.parametrize("kind, attention", EVERY)
def test_logits_and_loss_of_each_document_are_those_of_it_alone(
    kind: str, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hfscale.models import targets

    plain = language_model(kind, attention, window=WINDOW).eval()
    prepared = prepare_language_model(language_model(kind, attention, window=WINDOW)).eval()
    causal = kind in CAUSAL
    inputs, documents = packed_rows(causal)
    found = logits_of(targets, prepared, inputs, monkeypatch)
    rows = iter(found.split([end - begin - causal for _, begin, end in documents]))
    for row, begin, end in documents:
        with torch.no_grad():
            alone = plain(input_ids=inputs["input_ids"][row : row + 1, begin:end]).logits[0, : end - begin - causal]
            labels = torch.full_like(inputs["labels"], -100)
            labels[row, begin:end] = inputs["labels"][row, begin:end]
            loss = prepared(**{**inputs, "labels": labels})
        torch.testing.assert_close(next(rows), alone, atol=1e-5, rtol=0)
        own = F.cross_entropy(alone, inputs["labels"][row, begin : end - causal], reduction="sum")
        torch.testing.assert_close(loss, own, atol=1e-5 * (end - begin), rtol=0)


@pytest.mark.parametrize("kind", MASKED + CAUSAL)
def test_without_masks_these_documents_would_see_each_other(kind: str) -> None:
    """The models are sharp enough that a leak shows a thousand times above the tolerance."""
    plain = language_model(kind, "sdpa", window=WINDOW).eval()
    inputs, documents = packed_rows(kind in CAUSAL)
    row, begin, end = documents[2]
    with torch.no_grad():
        together = plain(input_ids=inputs["input_ids"], attention_mask=(inputs["piece_ids"] > 0).long()).logits
        alone = plain(input_ids=inputs["input_ids"][row : row + 1, begin:end]).logits[0]
    assert (together[row, begin:end] - alone).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["modernbert", "mistral", "qwen2", "gemma3_text"])
def test_the_window_matters_here(kind: str) -> None:
    inputs, _ = packed_rows(kind in CAUSAL)
    narrow, wide = (language_model(kind, "sdpa", window=window).eval() for window in (WINDOW, 60))
    with torch.no_grad():
        difference = narrow(input_ids=inputs["input_ids"]).logits - wide(input_ids=inputs["input_ids"]).logits
    assert difference.abs().max() > 1e-2


@pytest.mark.parametrize("kind, attention", [(kind, "sdpa") for kind in MASKED + CAUSAL] + [("bert", "eager")])
def test_the_gradient_is_that_of_documents_alone(kind: str, attention: str) -> None:
    plain = language_model(kind, attention, window=WINDOW).eval()
    prepared = prepare_language_model(language_model(kind, attention, window=WINDOW)).eval()
    causal = kind in CAUSAL
    inputs, documents = packed_rows(causal)
    prepared(**inputs).backward()
    for row, begin, end in documents:
        if end - begin > causal:  # a document of one token predicts nothing
            logits = plain(input_ids=inputs["input_ids"][row : row + 1, begin:end]).logits[0, : end - begin - causal]
            F.cross_entropy(logits, inputs["labels"][row, begin : end - causal], reduction="sum").backward()
    expected = dict(plain.named_parameters())
    scale = max(float(weight.grad.abs().max()) for weight in expected.values() if weight.grad is not None)
    for name, weight in prepared.named_parameters():
        reached, gradient = weight.grad, expected[name].grad
        assert (reached is None) == (gradient is None), name
        if reached is not None:
            torch.testing.assert_close(reached, gradient, atol=1e-5 * scale, rtol=0, msg=name)


@pytest.mark.parametrize("kind", CAUSAL)
def test_padding_behind_single_documents_changes_nothing_and_is_not_warned_about(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    plain = language_model(kind, "sdpa", window=WINDOW).eval()
    prepared = prepare_language_model(language_model(kind, "sdpa", window=WINDOW)).eval()
    ids = torch.arange(5, 13).expand(2, 8).clone()
    ids[1, 5:] = 0
    pieces, places = (ids > 0).long(), torch.arange(8).expand(2, 8)
    labels = torch.where(pieces > 0, ids, -100)
    with torch.no_grad():
        alone = [
            plain(input_ids=row.unsqueeze(0), attention_mask=torch.ones(1, len(row))).logits[0]
            for row in (ids[0], ids[1, :5])
        ]
        expected = sum(F.cross_entropy(rows, ids[0, : len(rows)], reduction="sum") for rows in alone)
        caplog.clear()
        loss = prepared(input_ids=ids, labels=labels, position_ids=places, piece_ids=pieces)
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=0)
    assert not caplog.records


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
def test_output_layer_and_embeddings_stay_one_tensor(kind: str) -> None:
    model: Any = prepare_language_model(language_model(kind, "sdpa"))
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("kind", MASKED + CAUSAL)
def test_no_target_gives_zero_and_a_gradient_for_every_weight(kind: str) -> None:
    model = prepare_language_model(language_model(kind, "sdpa")).train()
    inputs, _ = packed_rows(kind in CAUSAL)
    nothing = torch.full_like(inputs["labels"], -100)
    loss = model(**{**inputs, "labels": nothing})
    loss.backward()
    assert loss.item() == 0
    for name, weight in model.named_parameters():
        assert weight.grad is not None and not weight.grad.any(), name
    with torch.no_grad():
        assert model(**{**inputs, "labels": nothing}).item() == 0


@pytest.mark.parametrize("kind", MASKED + CAUSAL)
def test_without_labels_the_model_is_called_as_before(kind: str, tmp_path: Path) -> None:
    plain = language_model(kind, "sdpa").eval()
    model: Any = prepare_language_model(language_model(kind, "sdpa")).eval()
    ids = torch.tensor([[5, 6, 7, 8, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    with torch.no_grad():
        expected = plain(input_ids=ids, attention_mask=mask).logits
        assert torch.equal(model(input_ids=ids, attention_mask=mask).logits, expected)
        assert torch.equal(model(ids[:, :4]).logits, plain(ids[:, :4]).logits), "by position"
    if kind in CAUSAL:
        options = {"max_new_tokens": 6, "do_sample": False, "attention_mask": torch.ones_like(ids[:, :4])}
        assert torch.equal(model.generate(ids[:, :4], **options), plain.generate(ids[:, :4], **options))
    model.save_pretrained(tmp_path)
    again = type(plain).from_pretrained(tmp_path).eval()
    assert again.state_dict().keys() == plain.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids, attention_mask=mask).logits, expected)


@pytest.mark.parametrize(
    "kind, named",
    [
        ("mamba", "mamba model can't be told which documents share a sequence"),
        ("mamba2", "mamba2 model lets documents that share a sequence see each other"),
        ("rwkv", "rwkv model lets documents that share a sequence see each other"),
        ("convbert", "convbert model lets documents that share a sequence see each other"),
        ("gemma2", "the outputs of a gemma2 model are not one linear layer"),
        ("deberta-v2", "deberta-v2 model can't be told"),
        ("bloom", "bloom model can't be told"),
    ],
)
def test_a_model_that_would_train_something_else_is_refused(kind: str, named: str) -> None:
    model = language_model(kind, "eager", spread=None).train()  # as a new model is: its outputs hardly differ
    with pytest.raises(ModelError) as caught:
        prepare_language_model(model)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value) and "choose another model" in str(caught.value)
    assert model.training
    assert "forward" not in vars(model), "a refused model is left as it was"
