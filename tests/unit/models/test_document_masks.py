"""Who may look at whom in a packed sequence."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hfscale.models.document_masks import mask_arguments
from tests.support.language import language_model

PIECES = torch.tensor([[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 1]])
PLACES = torch.tensor([[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 4, 5]])
LOWEST = torch.finfo(torch.float32).min


def looks(mask: torch.Tensor) -> list[list[str]]:
    """Of each row of the batch, a line per position: what it looks at."""
    assert mask.shape == (2, 1, 6, 6) and mask.dtype == torch.float32
    assert set(mask.unique().tolist()) <= {0.0, LOWEST}
    return [["".join(".x"[int(cell)] for cell in line) for line in row[0] == 0] for row in mask]


def arguments(kind: str, pieces: torch.Tensor = PIECES, **options: Any) -> dict[str, Any]:
    return mask_arguments(language_model(kind, "sdpa", **options), pieces, PLACES)


def test_an_encoder_looks_at_its_own_document() -> None:
    first, second = looks(arguments("bert")["attention_mask"])
    assert first == ["xxx...", "xxx...", "xxx...", "...xx.", "...xx.", ".....x"], "padding must look somewhere"
    assert second == ["xxxxxx"] * 6


def test_a_decoder_looks_back_in_its_own_document() -> None:
    first, second = looks(arguments("gpt2")["attention_mask"])
    assert first == ["x.....", "xx....", "xxx...", "...x..", "...xx.", ".....x"]
    assert second == ["x.....", "xx....", "xxx...", "xxxx..", "xxxxx.", "xxxxxx"]


def test_a_causal_window_counts_the_position_itself_and_another_one_both_sides() -> None:
    _, second = looks(arguments("mistral", window=2)["attention_mask"])
    assert second == ["x.....", "xx....", ".xx...", "..xx..", "...xx.", "....xx"]
    masks = arguments("modernbert", window=4)["attention_mask"]
    assert masks.keys() == {"full_attention", "sliding_attention"}
    assert looks(masks["full_attention"])[1] == ["xxxxxx"] * 6
    assert looks(masks["sliding_attention"])[1] == ["xxx...", "xxxx..", "xxxxx.", ".xxxxx", "..xxxx", "...xxx"]
    assert looks(masks["sliding_attention"])[0] == looks(masks["full_attention"])[0]


@pytest.mark.parametrize("kind, masked", [("gpt2", False), ("llama", False), ("mistral", True), ("bert", True)])
def test_one_document_a_row_needs_no_mask_in_a_causal_model(kind: str, masked: bool) -> None:
    pieces = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]])
    assert torch.equal(arguments(kind, pieces)["attention_mask"], torch.ones_like(pieces)) != masked
    assert torch.equal(arguments("bert", torch.ones_like(pieces))["attention_mask"], torch.ones_like(pieces))


def test_positions_and_the_cache() -> None:
    assert torch.equal(arguments("bert")["position_ids"], PLACES)
    assert torch.equal(arguments("roberta")["position_ids"], PLACES + 1), "behind the padding's number, which is 0"
    assert arguments("gpt2")["use_cache"] is False
    assert "use_cache" not in arguments("bert")
